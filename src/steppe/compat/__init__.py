"""Calls of other libraries: code written for them runs after changing the import.

| written for | import |
|---|---|
| github.com/davda54/sam | `from steppe.compat import SAM` |
| github.com/juntang-zhuang/GSAM | `from steppe.compat import GSAM, LinearScheduler` |
| github.com/SamsungLabs/ASAM | `from steppe.compat.asam import ASAM, SAM` |

`TwoCall` gives the calls of the first to other steppe optimizers.
"""

from steppe.compat.asam import ASAM as ASAM
from steppe.compat.gsam import GSAM as GSAM
from steppe.compat.gsam_schedulers import CosineScheduler as CosineScheduler
from steppe.compat.gsam_schedulers import LinearScheduler as LinearScheduler
from steppe.compat.gsam_schedulers import PolyScheduler as PolyScheduler
from steppe.compat.gsam_schedulers import ProportionScheduler as ProportionScheduler
from steppe.compat.two_call import SAM as SAM
from steppe.compat.two_call import TwoCall as TwoCall
