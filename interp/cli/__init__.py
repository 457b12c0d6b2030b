"""The `interp` command. Figures go to standard output, everything else to standard error."""

import os
import re
import sys
from importlib.metadata import version

import click

from interp.cli.lazy import LazyGroup
from interp.errors import InterpError
from interp.launcher import n_ranks, own_rank

# Command -> module that holds it. Read when used, so that `interp --help` does not wait for torch.
_COMMANDS = {
    "models": ("interp.cli.models", "Look at a model: its size, its hooks, what it writes."),
    "collect": ("interp.cli.collect", "Write activations to disk, to train on them many times."),
    "train": ("interp.cli.train", "Train a sparse autoencoder on a model's activations."),
    "sweep": ("interp.cli.sweep", "Train many SAEs side by side from one stream of activations."),
    "plan": ("interp.cli.plan", "Say what a training run will take: time, memory, disk, operations."),
    "baseline": ("interp.cli.baseline", "Fit PCA, ICA, k-means, random directions or neurons, to judge SAEs by."),
    "evaluate": ("interp.cli.evaluate", "Measure a trained SAE: EV, L0, dead features, CE with the SAE in place."),
    "rate": ("interp.cli.rate", "Count the bits of a token's code: SAEs and codebooks at the same rate."),
    "concepts": ("interp.cli.concepts", "Measure what SAEs hold of known concepts, beside oracle and random arms."),
    "probe": ("interp.cli.probe", "Ask at every layer what can be read there: probes, with their controls."),
    "causal-sweep": ("interp.cli.causal_sweep", "Set features far beyond what occurs, and see what the outcomes do."),
    "steer": ("interp.cli.steer", "Steer along a direction: its effect, its cost, and random ones beside."),
    "contrast": ("interp.cli.contrast", "Find the features or neurons that separate two sets of texts."),
    "disentangle": ("interp.cli.disentangle", "Measure how far single features stand for single kinds of labels."),
    "features": ("interp.cli.features", "Find out everything about every feature, in one pass over text."),
    "lens": ("interp.cli.lens", "Read future tokens from inner layers: logit lens, tuned lens, Future Lens."),
    "patch": ("interp.cli.patch", "Patch activations of one prompt into another's pass: what carries an answer?"),
    "ablate": ("interp.cli.ablate", "Take components out one at a time and measure what that changes."),
    "attribute": ("interp.cli.attribute", "Foretell patching from one backward pass, and measure how well that does."),
    "codebook": ("interp.cli.codebook", "Finetune a model with discrete codes inside; find, read and steer by codes."),
    "circuit": ("interp.cli.circuit", "Find which features, heads and MLPs cause an outcome, and test them alone."),
    "watch": ("interp.cli.watch", "Show how a run goes while it trains, and say what goes wrong."),
    "report": ("interp.cli.report", "Write a run as one HTML file that opens offline."),
    "import": ("interp.cli.import_sae", "Make a run folder of an SAE that others trained."),
    "encode": ("interp.cli.encode", "Write which features fire on which token of your texts, as Parquet."),
    "pretrain": ("interp.cli.pretrain", "Train a small language model from scratch."),
    "study": ("interp.cli.study", "Repeat a published result and print ours beside it."),
}

# What several processes can do together, as torchrun starts them.
_TOGETHER = ("train", "collect", "sweep")

_RESUMED = "; what was checkpointed is kept, go on with --resume"
_REPEATED = "; what was finished is kept, the same command goes on"
# Command -> what to do after an interruption. Of the others nothing is kept.
_GO_ON = {
    ("train",): _RESUMED,
    ("sweep",): _RESUMED,
    ("collect",): _RESUMED,
    ("pretrain",): _RESUMED,
    ("features",): _REPEATED,
    ("lens", "train"): _RESUMED,
    ("codebook", "train"): _RESUMED,
    ("study", "tokfsm"): _REPEATED,
    ("study", "null-arms"): _REPEATED,
    ("study", "feature-sample"): _REPEATED,
    ("study", "name-hierarchy"): _REPEATED,
}


@click.group(
    cls=LazyGroup,
    modules=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `interp train configs/quickstart.yaml`, then `interp evaluate` and `interp report` on the run.",
)
@click.version_option(version("interp-workbench"), prog_name="interp")
def cli() -> None:
    """Interp Workbench: look inside a pretrained transformer.

    Collect a model's activations, train sparse autoencoders on them, measure them and look at their features.
    Works offline on an embedded model; takes any local Hugging Face folder or hub name with --model.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and give its exit code: 0, or 2 for whatever the user can mend."""
    words = tuple(sys.argv[1:] if arguments is None else arguments)
    if n_ranks() > 1 and words[:1] and words[0] in _COMMANDS and words[0] not in _TOGETHER:
        return _say(f"{words[0]}: runs in one process; start it without torchrun (with it: {', '.join(_TOGETHER)})")
    try:
        done = cli.main(arguments, prog_name="interp", standalone_mode=False)
        return done if isinstance(done, int) else 0
    except InterpError as error:
        return _say(_in_own_flags(str(error), words))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else " ".join(("interp", *_named(words)[0]))
        return _say(f"{error.format_message()} (see `{path} --help`)")
    except click.ClickException as error:
        return _say(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        go_on = next((text for name, text in _GO_ON.items() if words[: len(name)] == name), "")
        print(f"interp: interrupted{go_on}", file=sys.stderr)
        return 130


def _named(words: tuple[str, ...]) -> tuple[list[str], click.Command]:
    """The command that a line names, with the words that name it."""
    names: list[str] = []
    command: click.Command = cli
    for word in words:
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        names.append(word)
        command = inner
    return names, command


def _in_own_flags(message: str, words: tuple[str, ...]) -> str:
    """Settings of text under the command's own flags: --text-field where there is no --data.text-field."""
    flags = {name for parameter in _named(words)[1].params for name in parameter.opts}

    def own(found: re.Match[str]) -> str:
        short = f"--{found[1]}"
        return short if found[0] not in flags and short in flags else found[0]

    return re.sub(r"--data\.([\w-]+)", own, message)


def _say(message: str) -> int:
    who = f"rank {own_rank()}: " if own_rank() else ""
    print(f"interp: {who}{' '.join(message.split())}", file=sys.stderr)
    return 2


def run() -> None:
    """Entry point of the console script."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads, as `head` does, has had enough; what is left shall not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
