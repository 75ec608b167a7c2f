"""Says what to do about a missing package, in place of a trace of calls."""

import importlib
import sys


def package(module, debian):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"{error}: {debian} is missing; scripts/install-test-deps installs it")
