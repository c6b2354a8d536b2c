# SPDX-License-Identifier: Apache-2.0
"""Detached Ed25519 signatures of minisign, checked by the library py-minisign.

A public key is one line `RW…`; a signature is `<file>.minisig` next to its file. The signature of a bundle's manifest
covers the bundle, since the manifest holds the sha256 of every other file.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peft_dml_ros.core.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from minisign import PublicKey

SUFFIX: Final = ".minisig"  #: Ending of a signature's file
_LARGEST: Final = 16_384  #: Keys and signatures are a few hundred bytes: no more is read of what claims to be one


def public_key(text_or_file: str | Path) -> PublicKey:
    """Read a public key, given as its line `RW…` or as the file that holds it. Raises ConfigError: it is neither."""
    library, text = signature_library(), str(text_or_file).strip()
    path = Path(text).expanduser()
    try:
        if len(text) < 256 and path.is_file():
            text = read_small(path).decode(errors="replace").strip().split("\n")[-1]
        key: PublicKey = library.PublicKey.from_base64(text)
    except (OSError, ValueError) as error:  # the library's errors, and text that is not ASCII
        raise ConfigError(
            f"'{text_or_file}' is neither a public key (RW…) nor a file with one: {error};"
            " fix: make one: peft-dml bundle keygen"
        ) from error
    return key


def verify(file: Path, content: bytes, trusted: PublicKey) -> str:
    """Check the signature that lies next to a file, and return the comment that was signed with it.

    Raises BundleError: there is no signature, or it is another key's or another content's.

    Args:
        file: Names what was signed; the signature is `<file>.minisig`.
        content: What was read from it, and will be used.
        trusted: Key that must have signed it.
    """
    library, path = signature_library(), file.with_name(file.name + SUFFIX)
    if not path.is_file():
        msg = f"{file} is not signed, and a trusted key is set"
        raise BundleError(f"{msg}; fix: sign it: peft-dml bundle sign (or adapter sign), or leave trusted_key empty")
    try:
        signature = library.Signature.from_bytes(read_small(path))
    except library.ParseError as error:
        raise BundleError(f"{path} is no signature in minisign's format: {error}; fix: sign it again") from error
    try:
        trusted.verify(content, signature)
    except library.VerifyError as error:
        if "key identifiers" in str(error):
            msg = f"{file} was signed by another key than the trusted one, {trusted.to_base64().decode()}; fix: sign it"
            msg += " with that one's secret key, or trust the key that did"
        else:
            msg = f"{file} or its signature was altered after signing; fix: take it from its source again"
        raise BundleError(msg) from None
    return str(signature.trusted_comment)


def signature_library() -> Any:
    """Import py-minisign, which only those need who sign or verify."""
    try:
        return import_module("minisign")
    except ModuleNotFoundError:
        msg = "signatures need the Python module 'minisign'; fix: install it: pip install 'peft_dml_ros[signature]'"
        raise ConfigError(msg) from None


def read_small(path: Path) -> bytes:
    """Return the bytes of a key or a signature, and no more of what only claims to be one."""
    with path.open("rb") as file:
        return file.read(_LARGEST)
