"""Comparisons made up number by number, for tests of what reports say of them."""

from steppe_lab.runs.settings import CompareSettings
from steppe_lab.studies.rows import Comparison, Row

GRADIENTS = {"sam": 2.0}


def row(
    optimizer="sgd",
    seed=0,
    *,
    error=0.1,
    loss=0.2,
    train_error=0.05,
    best=None,
    lr=0.05,
    **measures,
):
    """One network; a measure is a value, or a dictionary of an estimate."""
    scores = {
        "epoch": 2.0,
        "train_loss": loss,
        "train_error": train_error,
        "test_loss": 2 * loss,
        "test_error": error,
    }
    found = measures or {"top_eigenvalue": 10.0, "trace": 100.0}
    name = optimizer.partition(":")[0]
    return Row(
        optimizer=optimizer,
        seed=seed,
        training=f"{seed}{'a' * 63}",
        analysis=f"{seed}{'b' * 63}",
        settings={
            "base": {"name": "sgd", "settings": {"lr": lr}},
            "optimizer": {"name": name, "settings": {"rho": 0.1}},
            "data": {"name": "digits", "settings": {}},
            "model": {"name": "small_cnn", "settings": {"width": 8}},
            "epochs": 2,
            "train_samples": 1000,
        },
        gradients=GRADIENTS.get(name, 1.0),
        last=scores,
        best=scores | {"test_error": error if best is None else best},
        history=[scores | {"epoch": 1.0, "test_error": 0.5, "train_loss": 2.0}, scores],
        measures={name: estimate(value) for name, value in found.items()},
        line={
            "x": [-1.0, 0.0, 1.0],
            "loss": [3.0, loss, 4.0],
            "stderr": [0.1, 0.1, 0.1],
            "samples": 100,
        },
    )


def estimate(given):
    """A record of an estimate."""
    given = given if isinstance(given, dict) else {"value": given}
    return {"stderr": 0.0, "samples": 0, "converged": True, "details": {}} | given


def comparison(*rows, failures=(), **settings):
    """A comparison of these rows."""
    names = tuple(dict.fromkeys(r.optimizer for r in rows)) or ("sgd", "sam")
    seeds = len({r.seed for r in rows}) or 3
    made = CompareSettings(**({"optimizers": names, "seeds": seeds} | settings))
    return Comparison(
        settings=made,
        rows=rows,
        failures=failures,
        parameters=25866,
        train_samples=1000,
        test_samples=500,
    )


def lpf(value, base):
    """An estimate that contains the loss itself."""
    return {"value": value, "stderr": 0.01, "details": {"base_loss": base}}


def three_seeds(sgd, sam, **same):
    """Rows of sgd and sam; each keyword's values are over seeds 0, 1 and 2."""
    return [
        row(name, seed, **same, **{key: column[seed] for key, column in values.items()})
        for name, values in (("sgd", sgd), ("sam", sam))
        for seed in range(3)
    ]
