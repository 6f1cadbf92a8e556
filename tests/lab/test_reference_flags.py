"""Flags of the published landscape code, as options of `steppe landscape`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steppe.errors import SettingError
from steppe.losses import LabelSmoothing
from steppe_lab.cli.parsing import check_options
from steppe_lab.cli.reference_flags import translated
from steppe_lab.cli.verbs.landscape import Args
from steppe_lab.tasks.loss_option import read_loss

# The documented command of the copy for SAM, with another name of the program.
DOCUMENTED = (
    "--model cifar --dataset cifar10 --x=-1:1:20 --y=-1:1:20 --model_file {file} "
    "--dir_type weights --xnorm filter --xignore biasbn --ynorm filter "
    "--yignore biasbn --plot --batch_size=128 --loss_name smooth_crossentropy"
)


@pytest.fixture
def file(tmp_path):
    """A file with names of a wide network that has one unit in each block."""
    path = tmp_path / "model_cifar_SAM_rho0.3.pt"
    torch.save({"f.1_block.block.0.block.0_convolution.weight": torch.ones(1)}, path)
    return path


def words_of(text):
    words, notes = translated(text.split())
    check_options(Args, "landscape", words)
    return words, notes


def test_the_documented_command_is_one_of_ours(file):
    words, notes = words_of(DOCUMENTED.format(file=file) + " --depth 10")
    model = "wide_resnet:depth=10,width=8,dropout=0.0,form=published"
    stem = f"steppe-runs/{file.stem}"
    assert words == [
        str(file),
        f"--model={model}",
        "--data=cifar10:standardise=computed",
        "--loss=smooth_crossentropy",
        "--x=-1:1:20",
        "--y=-1:1:20",
        "--dims=2",
        "--batch-norm=freeze",
        "--norm=filter",
        "--ignore=biasbn",
        "--seed=0",
        *("--pictures", "contour", "contourf", "heat", "surface"),
        "--names=plain",
        *("--out", f"{stem}.h5", f"{stem}.png"),
    ]
    assert notes == ["--batch_size of the published code has no effect here"]


def test_published_names_are_those_of_the_published_code(file):
    text = DOCUMENTED.format(file=file) + " --names reference"
    words, _ = words_of(text)
    ignored = "xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter"
    name = f"{file}_weights_{ignored}.h5_[-1.0,1.0,20]x[-1.0,1.0,20].h5"
    assert words[-3:] == ["--out", name, f"{name}.png"]
    line, _ = words_of(f"--model_file {file} --model_file2 b.pt --x=-0.5:1.5:401")
    assert "--dims=1" in line
    assert line[:2] == [str(file), "b.pt"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--y=0:1:51 --x=0:1:5", {"--x=0:1:5", "--y=0:1:51", "--dims=2"}),
        ("--y -1:1:11", {"--x=-1:1:51", "--y=-1:1:11", "--norm=none"}),
        ("", {"--x=-1:1:51", "--dims=1", "--ignore=none"}),
        ("--dir_type states", {"--batch-norm=interpolate"}),
        ("--dir_type states --y -1:1:3", {"--of=states", "--batch-norm=interpolate"}),
        (
            "--y -1:1:5 --xnorm filter --ynorm layer",
            {"--norm=filter", "--y-norm=layer"},
        ),
        ("--y -1:1:5 --same_dir", {"--same-dir"}),
        ("--model_file2 b.pt --y -1:1:5 --ynorm layer", {"b.pt", "--y-norm=layer"}),
        ("--idx 3 --xnorm layer", {"--seed=3", "--norm=layer"}),
        ("--datapath /data", {"--data-dir=/data"}),
        ("--dataset cifar10 -l mse", {"--loss=softmax_mse"}),
        ("--percentage 0.1", {"--samples=5000"}),
        (
            "--model GCN --dataset Mutagenicity --hidden-channels 32",
            {"--model=gcn:hidden=64", "--data=tudataset:name=Mutagenicity"},
        ),
        (
            "--model mitbih --dataset mitbih --n_head 4 --dropout 0.1",
            {
                "--model=ecg_transformer:d_model=200,n_head=4,n_layer=1,"
                "ffn_hidden=128,dropout=0.1",
                "--data=heartbeat",
            },
        ),
        ("--model resnet18 --dataset cifar10", {"--data=cifar10:standardise=channel"}),
        ("--model mine:build --dataset mine:load", {"--data=mine:load"}),
        ("--surf_file s.h5 --plot", {"s.h5", "s.png"}),
        ("--vmin 0.1 --vmax 10 --vlevel 0.5 --log", {"--vmin", "--vlevel", "--log"}),
    ],
)
def test_each_flag_is_an_option_of_ours(file, flags, expected):
    words, _ = words_of(f"--model_file {file} {flags}")
    assert expected <= set(words)


def test_flags_without_a_meaning_are_said_in_one_note(file):
    _, notes = words_of(f"--model_file {file} -m --threads 4 --ngpu=2 --show")
    assert notes == [
        "--mpi, --threads, --ngpu and --show of the published code have no effect here"
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data_split 2", "--data_split has no meaning here"),
        ("--trainloader loader.pt", "would run code of a file"),
        ("--dataset cifar10 -l hinge", "--loss_name takes crossentropy, mse"),
        ("--dataset Mutagenicity --train_rate 60", "--train_rate must be 70"),
        ("--percentage 2", "--percentage must be in"),
        ("--xnorm", "--xnorm needs a value"),
        ("--xnorm filter --xnorm filter", "--xnorm is given twice"),
    ],
)
def test_flags_that_ask_for_something_else_are_refused(file, flags, message):
    with pytest.raises(SettingError, match=message):
        words_of(f"--model_file {file} {flags}")


def test_published_flags_stand_beside_options_of_ours(file):
    words, _ = words_of(
        f"--model_file {file} --model mine:build --data mine:load --loss mse "
        "--xnorm filter --out a.h5 a.png"
    )
    assert {"--model=mine:build", "mine:load", "--norm=filter"} <= set(words)
    assert not any(word.startswith(("--data=", "--loss=")) for word in words)
    assert words.count("--out") == 1


def test_published_flags_without_a_file_are_refused():
    with pytest.raises(SettingError, match="--xnorm is a flag of the published"):
        translated(["net.pt", "--xnorm", "filter"])


@pytest.mark.parametrize("flag", ["percentage", "data_split", "percentage=nan", "idx"])
def test_numbers_that_are_none_are_refused(file, flag):
    name, _, value = flag.partition("=")
    text = (
        f"--model_file {file} --model mine:build --dataset mine:load --names reference"
    )
    with pytest.raises(SettingError, match=f"--{name} takes a number, got"):
        translated([*text.split(), f"--{name}={value or 'half'}"])


def test_other_calls_stay_as_they_are():
    words = ["net.pt", "--model", "mine:build", "--data", "mine:load", "--log"]
    assert translated(words) == (words, [])


def test_the_published_losses_are_their_formulas():
    torch.manual_seed(0)
    scores, classes = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 4
    smooth = read_loss("smooth_crossentropy")
    assert isinstance(smooth, LabelSmoothing)
    target = torch.full_like(scores, 0.1 / 3).scatter_(1, classes[:, None], 0.9)
    divergence = nn.functional.kl_div(
        scores.log_softmax(1), target, reduction="none"
    ).sum(1)
    torch.testing.assert_close(smooth(scores, classes), divergence)
    squared = read_loss("softmax_mse")
    wanted = nn.functional.one_hot(classes, 4).double()
    found = squared(nn.Identity(), (scores, classes)).mean()
    torch.testing.assert_close(found, nn.MSELoss()(scores.softmax(1), wanted))
