"""Hugging Face's Trainer trains as a plain loop does, with every optimizer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import schedulefree
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

import loops
import steppe
from integrations.harness import (
    EVERY_EXAMPLE,
    METHODS,
    assert_same,
    assert_same_in_two_processes,
    distance,
    lpf_sgd,
    plain_loop,
    run_page,
    sam,
)
from integrations.trainers import (
    Classifier,
    CountingClassifier,
    FlatTrainer,
    MicroFlatTrainer,
    Trainer,
    TrainingArguments,
    WrappingTrainer,
    fit,
)
from steppe.errors import SettingError, UsageError
from steppe.integrations.transformers import MicroBatchSteppeTrainer

# A training by the Trainer takes a second: the other methods are slow tests.
SAM_AND_SLOW_ONES = pytest.mark.parametrize(
    "make",
    [m if m is sam else pytest.param(m, marks=pytest.mark.slow) for m in METHODS],
)


@pytest.mark.slow
@EVERY_EXAMPLE
def test_a_training_equals_the_plain_loop(make, tmp_path):
    batches = list(loops.batches(3))
    model = Classifier(loops.make_model())
    fit(model, make, batches, tmp_path)
    assert_same(model.net, plain_loop(make, batches))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classifier, CountingClassifier])
@SAM_AND_SLOW_ONES
def test_accumulated_batches_equal_one_large_batch(make, kind, tmp_path):
    batches = list(loops.batches(4))
    model = kind(loops.make_model())
    more = {"gradient_accumulation_steps": 2, "decay": 0.5, "max_grad_norm": 0.05}
    trainer = fit(model, make, batches, tmp_path, **more)
    assert trainer.state.global_step == 2
    plain = plain_loop(make, batches, window=2, decay=0.5, clip=0.05)
    assert_same(model.net, plain)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classifier, CountingClassifier])
def test_shares_of_a_method_need_not_be_micro_batches(kind, tmp_path):
    batches = list(loops.batches(3))
    model = kind(loops.make_model())
    fit(model, lpf_sgd, batches, tmp_path, gradient_accumulation_steps=3)
    assert_same(model.net, plain_loop(lpf_sgd, batches, window=3))


@pytest.mark.slow
@SAM_AND_SLOW_ONES
def test_mixed_precision_equals_the_plain_loop_under_autocast(make, tmp_path):
    batches = [(x.float(), y) for x, y in loops.batches(3)]
    model = Classifier(loops.make_model().float())
    fit(model, make, batches, tmp_path, bf16=True)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        plain = plain_loop(make, batches, model=loops.make_model().float())
    assert_same(model.net, plain, atol=1e-6)


@pytest.mark.slow
@SAM_AND_SLOW_ONES
def test_resuming_equals_never_stopping(make, tmp_path):
    batches = list(loops.batches(8))
    more = {"gradient_accumulation_steps": 2, "decay": 0.5}
    straight, resumed = (Classifier(loops.make_model()) for _ in range(2))
    saving = {"save_strategy": "steps", "save_steps": 2}
    fit(straight, make, batches, tmp_path, **more, **saving)
    checkpoint = str(tmp_path / "checkpoint-2")
    fit(resumed, make, batches, tmp_path, **more, resume=checkpoint)
    assert loops.identical(loops.values(resumed), loops.values(straight))
    assert_same(resumed.net, plain_loop(make, batches, window=2, decay=0.5))


@pytest.mark.slow
def test_the_logged_loss_is_that_of_the_first_pass(tmp_path):
    batches = list(loops.batches(2))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    expected = F.cross_entropy(loops.make_model()(x), y).item()
    model = Classifier(loops.make_model())
    more = {"gradient_accumulation_steps": 2, "logging_steps": 1}
    trainer = fit(model, sam, batches, tmp_path, **more)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_logged_loss_of_a_share_is_the_mean_over_its_rows(tmp_path):
    def halves(model):
        return steppe.LPFSGD(loops.momentum(model), gamma=0.0, micro_batches=2)

    batches = list(loops.batches(3))
    x, y = (torch.cat(parts).chunk(2)[0] for parts in zip(*batches, strict=True))
    expected = F.cross_entropy(loops.make_model()(x), y).item()
    model = Classifier(loops.make_model())
    more = {"gradient_accumulation_steps": 3, "logging_steps": 1}
    trainer = fit(model, halves, batches, tmp_path, **more)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-6)


class OneOfTwo(MicroBatchSteppeTrainer):
    def __init__(self, opt):
        self.optimizer, self.accelerator = opt, SimpleNamespace(num_processes=2)


def test_micro_batches_with_perturbations_of_their_own_need_one_process():
    model = loops.make_model()
    with pytest.raises(UsageError, match="got 2; use SteppeTrainer instead"):
        OneOfTwo(sam(model)).training_step(model, {})


@pytest.mark.slow
def test_micro_batches_with_perturbations_of_their_own_are_the_sum_of_loops(tmp_path):
    batches = list(loops.batches(4))
    model = Classifier(loops.make_model())
    more = {"gradient_accumulation_steps": 2, "trainer": MicroFlatTrainer}
    fit(model, sam, batches, tmp_path, **more)
    plain = loops.make_model()
    opt = sam(plain)
    for i in (0, 2):
        opt.zero_grad()
        for x, y in batches[i : i + 2]:
            for _ in opt.passes(accumulate=True):
                (F.cross_entropy(plain(x), y) / 2).backward()
        opt.step()
    assert_same(model.net, plain)
    assert distance(plain, plain_loop(sam, batches, window=2)) > 1e-4


@pytest.mark.slow
def test_batch_norm_and_counts_are_those_of_one_pass(tmp_path):
    model = Classifier(loops.make_model(batch_norm=True))
    batches = list(loops.batches(4))
    fit(model, sam, batches, tmp_path, gradient_accumulation_steps=2)
    assert model.net[1].num_batches_tracked == 4


@pytest.mark.slow
def test_the_trainers_own_optimizer_may_be_wrapped(tmp_path):
    batches = list(loops.batches(3))
    more = {"learning_rate": 0.01, "weight_decay": 0.1}
    more |= {"lr_scheduler_type": "constant", "trainer": WrappingTrainer}
    model, plain = Classifier(loops.make_model()), loops.make_model()
    fit(model, None, batches, tmp_path, **more)
    names = dict(plain.named_parameters())
    groups = [
        {"params": [p for n, p in names.items() if "bias" not in n]},
        {"params": [p for n, p in names.items() if "bias" in n], "weight_decay": 0.0},
    ]
    opt = steppe.SAM(torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1), rho=0.3)
    for x, y in batches:
        for _ in opt.passes():
            F.cross_entropy(plain(x), y).backward()
        opt.step()
    assert_same(model.net, plain)


@pytest.mark.slow
@pytest.mark.cross_library
def test_a_schedule_free_optimizer_trains_and_predicts_where_it_is_to(tmp_path):
    """The Trainer calls train() before every forward pass, and eval() to evaluate."""
    batches = list(loops.batches(4))
    more = {"optim": "schedule_free_adamw", "learning_rate": 0.01}
    more |= {"lr_scheduler_type": "constant", "trainer": WrappingTrainer}
    saving = {"eval_strategy": "steps", "save_strategy": "steps"}
    saving |= {"eval_steps": 2, "save_steps": 2}
    model, plain = Classifier(loops.make_model()), loops.make_model()
    trainer = fit(model, None, batches, tmp_path, **more, **saving)
    base = schedulefree.AdamWScheduleFree(plain.parameters(), lr=0.01)
    opt = steppe.SAM(base, rho=0.3)
    losses = []
    for i in (0, 2):
        opt.train()
        for x, y in batches[i : i + 2]:
            loops.loop_step(opt, plain, x, y)
        opt.eval()
        x, y = (torch.cat(column) for column in zip(*batches, strict=True))
        losses.append(F.cross_entropy(plain(x), y).item())
    assert_same(model.net, plain)
    history = trainer.state.log_history
    reported = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert reported == pytest.approx(losses, rel=1e-6)
    resumed = Classifier(loops.make_model())
    path = str(tmp_path / "checkpoint-2")
    fit(resumed, None, batches, tmp_path, **more, **saving, resume=path)
    assert loops.identical(loops.values(resumed), loops.values(model))


@pytest.mark.slow
@pytest.mark.cross_library
def test_micro_batches_with_perturbations_of_their_own_train_at_that_point(tmp_path):
    batches = list(loops.batches(2))
    model, plain = Classifier(loops.make_model()), loops.make_model()

    def make(net):
        base = schedulefree.SGDScheduleFree(net.parameters(), lr=0.5)
        return steppe.SAM(base, rho=0.3)

    fit(model, make, batches, tmp_path, trainer=MicroFlatTrainer)
    opt = make(plain)
    opt.train()
    for x, y in batches:
        loops.loop_step(opt, plain, x, y)
    assert_same(model.net, plain)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", [FlatTrainer, MicroFlatTrainer])
def test_a_trainer_that_chose_its_optimizer_by_itself_says_so(trainer, tmp_path):
    model = Classifier(loops.make_model())
    with pytest.warns(UserWarning, match="made AdamW by itself and takes its ordinary"):
        fit(model, None, list(loops.batches(2)), tmp_path, trainer=trainer)


def test_the_class_of_an_optimizer_is_refused_without_its_weights(tmp_path):
    model = Classifier(loops.make_model())
    more = {"optimizer_cls_and_kwargs": (steppe.SAM, {"rho": 0.1})}
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    trainer = FlatTrainer(model=model, args=args, **more)
    with pytest.raises(SettingError, match=r"got a list of dict\.$"):
        trainer.create_optimizer()


@pytest.mark.slow
def test_the_last_window_of_an_epoch_may_be_short(tmp_path):
    (x, y), (u, v), last = loops.batches(3)
    model, plain = Classifier(loops.make_model()), loops.make_model()
    fit(model, sam, [(x, y), (u, v), last], tmp_path, gradient_accumulation_steps=2)
    opt = sam(plain)
    for inputs, targets in [(torch.cat([x, u]), torch.cat([y, v])), last]:
        for _ in opt.passes():
            F.cross_entropy(plain(inputs), targets).backward()
        opt.step()
    assert_same(model.net, plain)


class Interruption(TrainerCallback):
    def on_substep_end(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_training_can_be_started_again(tmp_path):
    batches = list(loops.batches(2))
    model = Classifier(loops.make_model())
    more = {"gradient_accumulation_steps": 2, "callbacks": [Interruption()]}
    trainer = fit(model, sam, batches, tmp_path, train=False, **more)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(Interruption)
    trainer.train()
    assert_same(model.net, plain_loop(sam, batches, window=2))


@pytest.mark.slow
def test_the_plain_trainer_refuses_loudly(tmp_path):
    model = Classifier(loops.make_model())
    with pytest.raises(UsageError, match="needs the gradient of a finished"):
        fit(model, sam, list(loops.batches(1)), tmp_path, trainer=Trainer)


@pytest.mark.slow
def test_a_transformer_equals_the_plain_loop(tmp_path):
    batches = []
    for i in range(3):
        g = torch.Generator().manual_seed(i)
        words = torch.randint(20, (loops.ROWS, 6), generator=g)
        batches.append((words, torch.randint(3, (loops.ROWS,), generator=g)))
    model, plain = make_bert(), make_bert()
    fit(model, sam, batches, tmp_path, inputs="input_ids")
    opt = sam(plain)
    for words, labels in batches:
        for _ in opt.passes():
            plain(input_ids=words, labels=labels).loss.backward()
        opt.step()
    assert_same(model, plain)


def make_bert() -> BertForSequenceClassification:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=6,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config).double()


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page("Hugging Face Trainer")["trainer"].average.steps == 6


@pytest.mark.slow
def test_an_average_is_evaluated_saved_and_resumed_as_the_page_says(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    page = run_page("Hugging Face Trainer")
    batches = list(loops.batches(4))
    saving = {"eval_strategy": "steps", "save_strategy": "steps"}
    saving |= {"eval_steps": 2, "save_steps": 2, "train": False}

    def make(path=None):
        model = Classifier(loops.make_model())
        kind = page["AveragingTrainer"]
        trainer = fit(model, sam, batches, tmp_path / "out", trainer=kind, **saving)
        trainer.average = steppe.SWA(model, start=1)
        trainer.average.attach(trainer.optimizer)
        trainer.add_callback(page["SaveAverage"])
        page["trainer"] = trainer
        if path:
            saved = torch.load(f"{path}/average.pt", weights_only=True)
            trainer.average.load_state_dict(saved)
        trainer.train(resume_from_checkpoint=path)
        return trainer

    straight = make()
    resumed = make(str(tmp_path / "out/checkpoint-2"))
    left, right = ([*t.average.tensors().values()] for t in (straight, resumed))
    assert loops.identical(left, right)
    assert resumed.average.steps == 4
    with straight.average.applied():
        x, y = (torch.cat(column) for column in zip(*batches, strict=True))
        expected = F.cross_entropy(straight.model.net(x), y).item()
    entries = [e for e in straight.state.log_history if "eval_loss" in e]
    assert entries[-1]["eval_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "window"), [(sam, 1), (sam, 2), (lpf_sgd, 1)])
def test_two_processes_equal_one_with_their_batches_joined(make, window, tmp_path):
    assert_same_in_two_processes("trainers.py", make, window, tmp_path)
