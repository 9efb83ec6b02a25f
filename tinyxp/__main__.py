"""The command line: ``tinyxp …`` and ``python -m tinyxp …`` are the same program."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

from tinyxp.errors import TinyxpError
from tinyxp.training._config import RunConfig
from tinyxp.training._presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = 2  # the exit code for what a user can put right
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is; exit with code 2."""
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0 if all went well; 1 if a check or the training failed; 2 if the arguments, the files or the device
        are at fault, with one line on standard error that says how; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that the terminal lacks is no reason to stop
            stream.reconfigure(errors="replace")
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (TinyxpError, BadArgumentError) as exc:
        return _complain(exc)
    except FloatingPointError as exc:
        return _complain(exc, code=1)
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = open(_null(), "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the process ends
        return 0
    except OSError as exc:
        what = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)
        return _complain(what)
    except KeyboardInterrupt:
        return _complain("interrupted", code=INTERRUPTED)


class BadArgumentError(ValueError):
    """An argument that only turned out wrong together with others."""


def _complain(problem: object, code: int = USAGE) -> int:
    print("tinyxp:", " ".join(str(problem).split()), file=sys.stderr)
    return code


def _null() -> str:
    import os

    return os.devnull


# ---------------------------------------------------------------- arguments
def _parser() -> Parser:
    from tinyxp._version import __version__

    parser = Parser(
        prog="tinyxp", description="Train a GPT on text, on any array library, and let it write."
    )
    parser.add_argument("--version", action="version", version=f"tinyxp {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for add in (_add_train, _add_generate, _add_info, _add_bench, _add_check):
        add(commands)
    return parser


def _add_train(commands: Any) -> None:
    presets = "\n".join(f"  {name:6} {preset.about}" for name, preset in PRESETS.items())
    p = commands.add_parser(
        "train",
        help="train a GPT",
        description="Train a GPT on text files, or without --data on Python's documentation.",
        epilog=f"presets:\n{presets}\n\nAn option that is not given has the value of the preset.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", metavar="DIR", help="folder for the run (default: runs/PRESET)")
    p.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run (default: the one in --out)",
    )
    for f in fields(RunConfig):
        _add_option(p, f)
    p.set_defaults(run=_train)


def _add_option(parser: argparse.ArgumentParser, f: Any) -> None:
    """Add the option for one setting; what is not given is None."""
    name = "--" + f.name.replace("_", "-")
    text = f.metadata["help"].replace("%", "%%")
    if f.name == "data":
        parser.add_argument(name, nargs="+", metavar="PATH", help=text)
    elif "choices" in f.metadata and f.name != "preset":
        parser.add_argument(name, choices=f.metadata["choices"], help=text)
    else:
        kind = type(f.default)
        metavar = {int: "N", float: "X"}.get(kind, f.name.upper())
        parser.add_argument(name, type=kind, metavar=metavar, help=text)


def _add_generate(commands: Any) -> None:
    p = commands.add_parser(
        "generate", help="let a trained model write", description="Let a trained model write."
    )
    p.add_argument("folder", metavar="RUN", help="folder of a run")
    p.add_argument("--prompt", default="", metavar="TEXT", help="what the text begins with")
    p.add_argument(
        "--max-new-tokens", type=_positive, default=500, metavar="N", help="how much to write"
    )
    p.add_argument(
        "--temperature",
        type=_not_negative,
        default=0.8,
        metavar="X",
        help="0: always the likeliest token",
    )
    p.add_argument(
        "--top-k", type=_positive, metavar="N", help="choose among the N likeliest tokens only"
    )
    p.add_argument(
        "--top-p",
        type=_share,
        metavar="X",
        help="choose among the likeliest that together have probability X",
    )
    p.add_argument("--seed", type=int, metavar="N", help="the same seed writes the same text")
    p.add_argument(
        "--device", default="auto", metavar="DEVICE", help="where to compute (default: auto)"
    )
    p.set_defaults(run=_generate)


def _add_info(commands: Any) -> None:
    text = "print versions, backends and devices"
    commands.add_parser("info", help=text, description=text).set_defaults(run=_info)


def _add_bench(commands: Any) -> None:
    text = "measure how fast this machine trains and generates"
    p = commands.add_parser("bench", help=text, description=text)
    p.add_argument(
        "presets", nargs="*", metavar="PRESET", help=f"of {', '.join(PRESETS)} (default: all)"
    )
    p.add_argument("--device", default="auto", metavar="DEVICE", help="where (default: auto)")
    p.add_argument(
        "--seconds", type=_positive, default=5, metavar="N", help="about how long for each"
    )
    p.set_defaults(run=_bench)


def _add_check(commands: Any) -> None:
    text = "test a backend, also one of your own, against the conformance suite"
    p = commands.add_parser("check-backend", help=text, description=text)
    p.add_argument("name", metavar="NAME", help="a backend's registered name")
    p.set_defaults(run=_check)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1; got {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0; got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1; got {text}")
    return value


# ---------------------------------------------------------------- commands
def _train(args: argparse.Namespace) -> int:
    import logging

    from tinyxp.training._command import new_run, resume_run

    logging.getLogger("tinyxp").addHandler(logging.NullHandler())  # the run says it itself
    given = {f.name: getattr(args, f.name) for f in fields(RunConfig)}
    try:
        if args.resume is not None:
            return resume_run(args.resume or args.out, given)
        return new_run(args.out, given)
    except ValueError as exc:
        if isinstance(exc, TinyxpError):
            raise
        raise BadArgumentError(exc) from None


def _generate(args: argparse.Namespace) -> int:
    from tinyxp.training._generate import load_run, stream_text

    model, tokenizer = load_run(args.folder, args.device)
    pieces = stream_text(
        model, tokenizer, args.prompt, args.max_new_tokens, temperature=args.temperature,
        top_k=args.top_k, top_p=args.top_p, seed=args.seed,
    )  # fmt: skip
    print(args.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0


def _info(args: argparse.Namespace) -> int:
    del args
    from tinyxp.training._info import info_lines

    for line in info_lines():
        print(line)
    return 0


def _bench(args: argparse.Namespace) -> int:
    from tinyxp.training._bench import bench_lines

    if unknown := [name for name in args.presets if name not in PRESETS]:
        raise BadArgumentError(f"no preset named {unknown[0]!r}; there are {', '.join(PRESETS)}")
    for line in bench_lines(args.device, args.presets or list(PRESETS), seconds=args.seconds):
        print(line, flush=True)
    return 0


def _check(args: argparse.Namespace) -> int:
    from tinyxp.testing import check_backend

    verdicts = check_backend(args.name)
    width = max(len(check) for check, _, _ in verdicts)
    for check, verdict, detail in verdicts:
        indented = detail.strip().replace("\n", "\n" + " " * (width + 11))
        print(f"{check:{width}}  {verdict:7}  {indented}")
    found = Counter(verdict for _, verdict, _ in verdicts)
    print(f"{args.name}: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(found.items())))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
