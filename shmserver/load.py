# SPDX-License-Identifier: MIT
"""From "package.module:Class" and the options of a command line to a store."""

import errno
import importlib
import inspect
import logging
import os
import traceback
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from shmserver.complaints import text_of
from shmserver.store import Store, implements

log = logging.getLogger("shmserver")

C_STORE = "__ovsshm_store__"
"""The attribute of an object that brings a store of the C core: a PyCapsule of the name
"ovsshm_store_type" with a const struct ovsshm_store_type *."""


def is_python(store: object) -> bool:
    """Not the name of a store that comes with the server, nor the path of a shared object."""
    if not isinstance(store, str):
        return True
    return ":" in store and "/" not in store and not store.endswith(".so")


def load(
    store: object, options: Mapping[str, str], pool: str | os.PathLike[str] | None
) -> Store | Any:
    """A Store, or what has the attribute C_STORE.

    store: either of them, a class or function that makes a Store from keyword arguments, or the
    text "package.module:name" for one of these.  OSError (EINVAL) says what does not fit.
    """
    what = f'the store "{store}"' if isinstance(store, str) else f"the store {store!r}"
    found = _import(store, what) if isinstance(store, str) else store
    if hasattr(found, C_STORE):
        return found
    if isinstance(found, Store):
        if options:
            raise _refused(f"{what} is made already and takes no options")
        return _complete(found, what)
    if not callable(found):
        raise _refused(f"{what} is not a shmserver.Store, nor a class of one")
    made = _make(found, what, options, pool)
    if hasattr(made, C_STORE):
        return made
    if not isinstance(made, Store):
        raise _refused(f"{what} makes a {type(made).__name__}, which is not a shmserver.Store")
    return _complete(made, what)


def _complete(store: Store, what: str) -> Store:
    """Without these no volume can be opened, or none be read."""
    for methods in (("size",), ("pread", "submit")):
        if not any(implements(store, method) for method in methods):
            needed = " or ".join(f"{method}()" for method in methods)
            raise _refused(f"{what} needs a method {needed}")
    return store


def _refused(reason: str) -> OSError:
    return OSError(errno.EINVAL, reason)


def _import(spec: str, what: str) -> Any:
    module_name, _, path = spec.partition(":")
    if not module_name or not path:
        raise _refused(f"{what} must be package.module:Class")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        log.debug("importing %s failed", module_name, exc_info=True)
        raise _refused(f'cannot import "{module_name}" for {what}: {_reason(error)}') from error
    try:
        return attrgetter(path)(module)
    except AttributeError as error:
        stores = ", ".join(name for name, value in vars(module).items() if _is_store(value))
        hint = f"; stores in it: {stores}" if stores else ""
        raise _refused(f'the module "{module_name}" has no "{path}"{hint}') from error


def _is_store(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Store) and value is not Store


def _reason(error: BaseException) -> str:
    """What happened, and where in the code of others."""
    reason = f"{type(error).__name__}: {text_of(error)}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<")
    ]
    return f"{reason} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else reason


def _make(
    factory: Callable[..., Any],
    what: str,
    options: Mapping[str, str],
    pool: str | os.PathLike[str] | None,
) -> Any:
    parameters: Mapping[str, inspect.Parameter]
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # it does not tell
        parameters = {}
    arguments: dict[str, Any] = dict(options)
    if pool is not None and "pool" in parameters:
        arguments.setdefault("pool", pool)
    _check_arguments(what, arguments, parameters)
    try:
        return factory(**arguments)
    except OSError as error:
        reason = text_of(error) + (f': "{error.filename}"' if error.filename else "")
        raise OSError(error.errno or errno.EINVAL, f"cannot make {what}: {reason}") from error
    except (Exception, SystemExit) as error:
        log.debug("making %s failed", what, exc_info=True)
        raise _refused(f"cannot make {what}: {_reason(error)}") from error


def _check_arguments(
    what: str, arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    kinds = {parameter.kind for parameter in parameters.values()}
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    known = ", ".join(named) or "none"
    for name in arguments:
        if parameters and name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise _refused(f'{what} has no option "{name}"; it has {known}')
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise _refused(f'{what} needs the option "{name}"')
