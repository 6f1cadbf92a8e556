"""Work for the tests of the executor; worker processes import it by name."""

import errno
import os
import signal
import sys
import time
import uuid
from pathlib import Path

from steppe.errors import DataError, SteppeError
from steppe_lab.execution.interrupts import stop_by_exception
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Progress
from steppe_lab.store.store import Store


def _mark(folder):
    (folder / f"call-{uuid.uuid4().hex}").touch()


def halve(config, folder, report):
    """Leaves a mark per call, so that calls can be counted."""
    _mark(folder)
    report(Progress(0.5, text="half done"))
    return {"half": config["number"] / 2, "third": config["number"] / 3}


def slow_halve(config, folder, report):
    result = halve(config, folder, report)
    time.sleep(0.05)
    return result


def threads(config, folder, report):
    return {"threads": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}


def device(config, folder, report):
    time.sleep(0.2)
    return {"device": os.environ.get("STEPPE_DEVICE"), "pid": os.getpid()}


def surroundings(config, folder, report):
    """The environment, and what the process has imported and runs."""
    return {
        "said": os.environ.get("STEPPE_SAID"),
        "safe_path": os.environ.get("PYTHONSAFEPATH"),
        "torch": "torch" in sys.modules,
        "threads_of_server": len(list(Path(f"/proc/{os.getppid()}/task").iterdir())),
    }


def die_by_config(config, folder, report):
    """Dies in the way asked for, until it has died `deaths` times."""
    _mark(folder)
    if len(list(folder.glob("call-*"))) <= config["deaths"]:
        if config["how"] == "exit":
            os._exit(3)
        if config["how"] == "leave":
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"how": config["how"]}


def complain(config, folder, report):
    _mark(folder)
    if config["number"] == 1:
        raise ValueError("one is\nbad")
    if config["number"] == 2:
        raise DataError("two is no data; give three.")
    if config["number"] == 3:
        return {"not json": object()}
    return {"number": config["number"]}


class BrokeDownError(SteppeError, ArithmeticError):
    """Comes again however often one tries."""


def break_down(config, folder, report):
    _mark(folder)
    raise BrokeDownError("the loss became nan; lower the learning rate.")


class Odd(BaseException):
    """What no `except Exception` catches."""


def end(config, folder, report):
    """Raises what is asked for, as no work should."""
    kinds = [SystemExit(0), SystemExit(), KeyboardInterrupt(), GeneratorExit(), Odd()]
    raise kinds[config["number"]]


def chat(config, folder, report):
    print("hello from code of the user")  # noqa: T201
    os.write(1, b"and from below Python\n")
    return {}


def fill_the_disk(config, folder, report):
    def write(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.write = write  # in this worker process, which ends by it
    return {}


def hang(config, folder, report):
    """Finishes number 0; the others wait for a signal that never comes."""
    (folder / "pid").write_text(str(os.getpid()))
    if config["number"] > 0:
        time.sleep(600)
    return {"number": 0}


def together(configs, folders, report, done):
    """Does what each config asks for: dies, raises, is silent, or ends."""
    names = sorted(str(config["number"]) for config in configs)
    with (folders[0].parent.parent / "groups").open("a") as log:
        log.write(" ".join(names) + "\n")
    for index, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        report(Progress(0.5, text="half done", run=folder.name))
        how = config.get("how", "")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "all":
            raise MemoryError("too many at once")
        elif how == "raise":
            done(index, ValueError("this one alone"))
        elif how != "silent":
            done(index, halve(config, folder, report))
            done(index, {"half": "said twice"})


def together_on_a_full_disk(configs, folders, report, done):
    fill_the_disk(None, None, None)
    for index in range(len(configs)):
        try:
            done(index, {})
        except Exception as error:  # as a trainer of many that goes on without one
            done(index, error)


def together_for_ever(configs, folders, report, done):
    done(0, {})
    report(Progress(0.5, text="all others"))
    time.sleep(600)


def kill_or_halve(config, folder, report):
    if config.get("how") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.get("how") == "raise":
        raise ValueError("this one alone")
    return halve(config, folder, report)


def kill_the_parent_once(config, folder, report):
    """Ends the process that the worker is a child of, and then itself."""
    _mark(folder)
    if config["number"] == 1 and len(list(folder.glob("call-*"))) == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    return {"number": config["number"]}


def drive_ray(root, work):
    """Run everything in a store on a Ray cluster of this process."""
    from steppe_lab.execution.ray import run_ray

    store = Store(root)
    run_ray(store, store.ids(), work, address="local", workers=2, cpus=0.5)


def drive(root, work, workers, threads=1):
    """Run everything in a store; body of the processes that tests kill."""
    store = Store(root)
    configs = [store.config(run)["number"] for run in store.ids()]
    order = [run for _, run in sorted(zip(configs, store.ids(), strict=True))]
    run_local(store, order, work, workers=int(workers), threads=int(threads))


if __name__ == "__main__":
    stop_by_exception()
    if sys.argv[2] == "ray":
        drive_ray(Path(sys.argv[1]), sys.argv[3])
    else:
        drive(Path(sys.argv[1]), *sys.argv[2:])
