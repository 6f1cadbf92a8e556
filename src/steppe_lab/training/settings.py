"""Settings of training that are plain values, importable without torch."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from steppe.errors import SettingError
from steppe_lab.training.lr_schedules import read_lr_schedule
from steppe_lab.training.over_epochs import read_over_epochs

SHA256 = "sha256:"  # before the digits of a file
MOST = 10**9  # of what is counted, more than anybody waits for
SEEDS = 2**32  # seeds are below, as numpy wants them
# Settings that say the same thing in two ways.
EITHER = (("clip_norm", "clip_value"), ("stop_at_loss", "stop_at"))
# Settings that say how, with those that say whether.
NEEDS = {
    "label_smoothing_form": ("label_smoothing",),
    "l2_on": ("l2",),
    "scored_loss": ("label_smoothing", "l2"),
    "stop_on": ("stop_at_loss",),
    "go_on": ("stop_at_loss", "stop_at"),
    "min_delta": ("patience",),
}
# Options whose names cannot be those of fields: words of Python, and taken ones.
_OPTIONS = {"as_json": "json", "start_from": "from", "further": "and"}
_PLUS = re.compile(r"\+(?=[A-Za-z_])")  # not that of 1e+3


def option_of(name: str) -> str:
    """The option of the command for a field, without dashes before it.

    Example:
        >>> option_of("clip_norm"), option_of("start_from")
        ('clip-norm', 'from')
    """
    return _OPTIONS.get(name, name).replace("_", "-")


def options_of(settings: BaseModel, without: str = "") -> list[str]:
    """Options for all settings that differ from their defaults."""
    words = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == without or value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        if value is True:
            values = ()
        words += [f"--{option_of(name)}", *map(str, values)]
    return words


def parted(text: str) -> list[str]:
    """An optimizer and the averages of the weights that follow it.

    Example:
        >>> parted("sam:rho=1e+3+ema:decay=0.9"), parted("sgd")
        (['sam:rho=1e+3', 'ema:decay=0.9'], ['sgd'])
    """
    return _PLUS.split(text)


class PlainSettings(BaseModel):
    """How a network is trained, but for the methods that are chosen by name."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    # The settings of the first records. All others are left out of JSON at their
    # defaults, so that a run keeps its id when a setting is added: no name comes in.
    always_recorded: ClassVar[frozenset[str]] = frozenset(
        {
            *("train_samples", "label_noise", "held_out", "data_seed", "epochs"),
            *("batch_size", "lr_schedule", "warmup_epochs", "device"),
        }
    )

    train_samples: int | None = Field(default=None, ge=1, le=MOST)
    """Training samples to draw; digits draws 1000, others take all they have."""
    train_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    """Share of the training samples to take instead, the same of every class."""
    subset: Literal["random", "first", "stratified", "balanced"] | None = None
    """Which samples: drawn at random, the first of the files, every class in its
    proportion (the default with --train-fraction), or the same number of each."""
    test_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    """Share of the test samples to judge on, taken as --subset says."""
    label_noise: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of training labels that are noise."""
    label_noise_kind: Literal["other", "uniform", "shuffled"] = "other"
    """Labels with noise: another class, any class (so that one in so many stays right),
    or those of the samples chosen, shuffled among themselves."""
    data_noise: float = Field(default=0.0, ge=0.0, le=100.0)
    """Standard deviation of Gaussian noise on training images, drawn once; pixels go
    from 0 to 1 before it."""
    held_out: Literal["test", "validation"] = "test"
    """Samples to judge on: the test set, or while tuning the validation set of the
    data, or unused training samples where there is none."""
    validation_seed: int | None = Field(default=None, ge=0, lt=SEEDS)
    """Seed of validation samples that are set apart first, a fifth of the training
    samples and at most 5000, so that they do not change with --data-seed."""
    data_seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the samples drawn and of the noise."""
    epochs: int = Field(default=30, ge=1, le=1_000_000)
    """Passes over the training samples."""
    batch_size: int = Field(default=64, ge=1, le=MOST)
    """Samples per step."""
    steps: int | None = Field(
        default=None,
        ge=1,
        le=MOST,
        json_schema_extra={"group": "learning rate and epochs"},
    )
    """Optimizer steps to train for instead of --epochs; the last epoch may be short."""
    epoch_size: int | None = Field(default=None, ge=1, le=MOST)
    """Samples of an epoch, which scores and schedules count in: the next ones of the
    shuffled training samples, over and over; the default is all of them."""
    last_batch: Literal["keep", "drop"] = "keep"
    """Whether an epoch ends with a smaller batch, or drops one that is incomplete."""
    batch_by: Literal["random", "length"] = "random"
    """Batches of random samples, or of sequences of nearly one length, in random order:
    less padding, and so less time."""
    lr_schedule: str = "cosine"
    """The learning rate over the steps: cosine falls to 0, step falls tenfold at 1/2
    and at 3/4, constant stays; or any schedule of the step with times in epochs, as
    multi_step(milestones=(100,120),factor=0.1), or your function of the step as
    module:function; plateau(factor=0.1,patience=10) drops where --monitor stalls."""
    over_epochs: tuple[str, ...] = ()
    """Settings that change over the epochs: batch_size, weight_decay or l2 with a
    schedule of the epoch, such as batch_size=multi_step(milestones=(30,),factor=2),
    which starts at the value of the setting."""
    warmup_epochs: float = Field(default=0.0, ge=0.0, le=MOST)
    """Linear warm-up of the learning rate."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of each training target that is taken from its class and spread."""
    label_smoothing_form: Literal["others", "all"] = "others"
    """Classes that it is spread over: the others, with the divergence as the loss (as
    SAM's and GSAM's code), or all, as torch."""
    l2: float = Field(default=0.0, ge=0.0, le=MOST)
    """Add so many times the sum of squared weights to the loss, and with it to the
    gradient and the Hessian; for SGD it is twice as much weight_decay."""
    l2_on: Literal["kernels", "all"] = "kernels"
    """Parameters in that sum: those of two dimensions or more, or biases and norms
    too."""
    clip_norm: float | None = Field(default=None, gt=0.0, le=MOST)
    """Shorten gradients to this joint norm before the step, after all passes of a
    method; the norms before are in the history."""
    clip_value: float | None = Field(default=None, gt=0.0, le=MOST)
    """Clip each entry of the gradient to this magnitude."""
    stop_at_loss: float | None = Field(default=None, ge=0.0, le=MOST)
    """End the training where its loss has come down to this."""
    stop_on: Literal["train_loss", "running_loss", "running_perturbed_loss"] = (
        "train_loss"
    )
    """That loss: the one scored in eval mode, the mean of an epoch's steps in train
    mode, or that at the perturbed weights of SAM's steps."""
    stop_at: str = ""
    """End the training at a condition on a column of the history instead, such as
    train_accuracy>=0.99."""
    go_on: bool = False
    """Note the epoch of that first convergence alone, and train on to the end."""
    patience: int | None = Field(default=None, ge=1, le=MOST)
    """End the training where --monitor has not improved for so many epochs."""
    min_delta: float = Field(default=0.0, ge=0.0, le=MOST)
    """With --patience: an improvement is by more than this, a difference from the best
    value so far."""
    scored_loss: Literal["plain", "trained"] = "plain"
    """Losses of the scores: the plain one of the task, or the one trained on, smoothed
    and with L2."""
    device: str = "cpu"
    """A torch device to train and measure on."""
    amp: Literal["off", "bf16", "fp16"] = "off"
    """Lower precision of forward passes and losses in training: bfloat16, or float16
    with a scaled loss. Weights, scores and measures stay in float32."""
    channels_last: bool = False
    """Lay images and filters out with their channels last in memory, which is faster
    on a GPU with --amp."""
    compile: bool = False
    """Compile the forward and backward pass of training with torch.compile; the first
    steps take a minute longer."""
    perturbations: int = Field(default=1, ge=1, le=MOST)
    """Parts of a batch, each with gradients at perturbed weights of its own
    (m-sharpness); 1 for the whole batch, on several processes too."""
    evaluate_every: int = Field(default=1, ge=1, le=MOST)
    """Epochs from one scoring of all training and test samples to the next; the last
    epoch is always scored."""
    monitor: str = "train_loss"
    """Number of every epoch that a plateau and --patience look at, as a column of the
    history: train_loss, running_loss, test_error, which is that of validation samples
    with --held-out validation."""

    start_from: str = ""
    """Weights to start from instead of those that the seed gives: a checkpoint, RUN@50,
    or a file that torch.save wrote; sha256:DIGITS names a file that was used before.
    The id of the run follows from the contents."""
    with_optimizer: bool = False
    """With --from: go on with the state of the optimizer in the file, or beside the
    checkpoint; its settings are those of this training."""
    weights: str = ""
    """With --from: which weights, where the file holds several, such as model_ema."""
    checkpoint_every: int | None = Field(default=None, ge=0, le=MOST)
    """Keep the weights of every so many epochs too, and of the beginning, half time,
    the best epoch and the first that converged; with 0 those four alone."""
    checkpoint_optimizer: bool = False
    """Keep the state of the training, its optimizer's too, beside each checkpoint."""
    tensorboard: bool = False
    """Write every number of history.csv for TensorBoard too."""

    @field_validator("lr_schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return read_lr_schedule(value)

    @field_validator("over_epochs")
    @classmethod
    def _over_epochs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return read_over_epochs(value)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if not self.start_from and (self.with_optimizer or self.weights):
            name = "with_optimizer" if self.with_optimizer else "weights"
            raise SettingError(
                f"{name} is about the file to start from, got none; give --from FILE "
                "too."
            )
        if self.checkpoint_optimizer and self.checkpoint_every is None:
            raise SettingError(
                "checkpoint_optimizer needs checkpoints to stand beside, got none; "
                "give --checkpoint-every too, 0 for those with a name."
            )
        return self

    @model_validator(mode="after")
    def _l2_over_epochs(self) -> Self:
        """Measures of the trained loss need its L2, without the samples."""
        if any(text.startswith("l2=") for text in self.over_epochs):
            if not self.l2:
                raise SettingError(
                    "l2 over epochs needs --l2, the value that it starts at, got none; "
                    "give it too."
                )
            if self.steps is not None:
                raise SettingError(
                    "l2 over epochs needs a number of epochs, got --steps "
                    f"{self.steps}; give --epochs instead."
                )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        usual = type(self).model_fields["epochs"].default
        if self.steps is not None and self.epochs != usual:
            raise SettingError(
                f"a training is as long as --epochs or as --steps says, got "
                f"{self.epochs} epochs and {self.steps} steps; leave one of them out."
            )
        return self

    @model_validator(mode="after")
    def _needed(self) -> Self:
        """Refuse a setting of something that is not asked for, or one said twice."""
        fields = type(self).model_fields
        for one, other in EITHER:
            if all(getattr(self, n) != fields[n].default for n in (one, other)):
                raise SettingError(
                    f"--{option_of(one)} and --{option_of(other)} exclude each other, "
                    "got both; leave one of them out."
                )
        for name, needed in NEEDS.items():
            values = [getattr(self, each) for each in needed]
            absent = all(
                v == fields[n].default for n, v in zip(needed, values, strict=True)
            )
            if absent and getattr(self, name) != fields[name].default:
                others = " or ".join(f"--{option_of(each)}" for each in needed)
                raise SettingError(
                    f"--{option_of(name)} goes with {others}, got it alone; leave it "
                    "out."
                )
        return self

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        record: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        return {
            name: value
            for name, value in record.items()
            if name in self.always_recorded
            or getattr(self, name) != fields[name].default
        }
