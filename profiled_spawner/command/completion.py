"""``profiled-spawner completion``: a bash script that completes the command's arguments."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

from .inputs import EXIT_OK

__all__ = ["run"]

# Without a match, the script returns nothing, and the shell completes file names.
_SCRIPT = """\
_profiled_spawner() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words=
  COMPREPLY=()
  case "$COMP_CWORD ${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
    "1 "*) words={commands} ;;
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _profiled_spawner profiled-spawner
"""


def run(_: argparse.Namespace) -> int:
    """Prints the script, and returns the exit code."""
    # Imported here to avoid a cycle: `main` imports this module by name.
    from .main import make_parser

    parser = make_parser()
    (commands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    cases = [case for name, command in commands.items() for case in _write_cases(name, command)]
    print(_SCRIPT.format(commands=shlex.quote(" ".join([*commands, "--help", "--version"])), cases="\n".join(cases)))
    return EXIT_OK


def _write_cases(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    options = [option for action in command._actions for option in action.option_strings if option.startswith("--")]
    for action in command._actions:
        for option in action.option_strings:
            if action.choices:
                yield f'    *" {name} {option}") words={shlex.quote(" ".join(map(str, action.choices)))} ;;'
    yield f'    *" {name} "*) if [ "${{current#-}}" != "$current" ]; then words={shlex.quote(" ".join(options))}; fi ;;'
