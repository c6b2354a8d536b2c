# SPDX-License-Identifier: Apache-2.0
"""Detached Ed25519 signatures of minisign, made and checked by the library py-minisign.

A public key is one line `RW…`; a signature is `<file>.minisig` next to its file. The signature of a bundle's manifest
covers the bundle, since the manifest holds the sha256 of every other file.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peft_dml_ros.core.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from minisign import PublicKey

SUFFIX: Final = ".minisig"
"""Ending of a signature's file."""

_LARGEST: Final = 16_384
"""Keys and signatures are a few hundred bytes: no more is read of what claims to be one."""


def public_key(text_or_file: str | Path) -> PublicKey:
    """Read a public key, given as its line `RW…` or as the file that holds it.

    Raises:
        ConfigError: it is neither.
    """
    library, text = _library(), str(text_or_file).strip()
    path = Path(text).expanduser()
    if len(text) < 256 and path.is_file():
        text = _read(path).decode(errors="replace").strip().split("\n")[-1]
    try:
        key: PublicKey = library.PublicKey.from_base64(text)
    except ValueError as error:  # the library's errors, and text that is not ASCII
        raise ConfigError(
            f"'{text_or_file}' is neither a public key (RW…) nor a file with one: {error};"
            " make one: peft-dml bundle keygen"
        ) from error
    return key


def make_keys(secret: Path) -> PublicKey:
    """Write a new secret key, readable by its owner only, and its public key next to it (`.pub`).

    Raises:
        ConfigError: one of the files exists.
    """
    pair = _library().KeyPair.generate()
    public: PublicKey = pair.public_key
    for path, content, mode in (
        (secret, bytes(pair.secret_key), 0o600),
        (secret.with_suffix(".pub"), bytes(public), 0o644),
    ):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise ConfigError(f"{path} exists; keys are not overwritten: take another name") from None
        with os.fdopen(file, "wb") as out:
            out.write(content.rstrip(b"\n") + b"\n")
    return public


def sign(file: Path, secret: Path, comment: str = "") -> Path:
    """Write the signature of a file next to it.

    Args:
        file: What is signed.
        secret: Secret key without password, as `make_keys` or `minisign -G -W` writes it.
        comment: Signed as well; the time when empty.

    Returns:
        The signature's file.

    Raises:
        ConfigError: there is no such key, or the comment has line breaks.
    """
    library = _library()
    if not secret.is_file():
        raise ConfigError(f"no secret key {secret}; make one: peft-dml bundle keygen {secret}")
    try:
        key = library.SecretKey.from_bytes(_read(secret))
        comment = comment or f"timestamp:{int(time.time())}\tfile:{file.name}"
        signature = key.sign(file.read_bytes(), trusted_comment=comment)
        # The checksum of a key without password is not looked at before: a damaged key makes a signature of nobody.
        key.get_public_key().verify(file.read_bytes(), signature)
    except library.Error as error:
        raise ConfigError(
            f"{secret} cannot sign: {error}. It must be a secret key without password; with a password, sign with"
            " minisign itself: minisign -S -m manifest.json"
        ) from error
    out = file.with_name(file.name + SUFFIX)
    out.write_bytes(bytes(signature) + b"\n")
    return out


def verify(file: Path, content: bytes, trusted: PublicKey) -> str:
    """Check the signature that lies next to a file.

    Args:
        file: Names what was signed; the signature is `<file>.minisig`.
        content: What was read from it, and will be used.
        trusted: Key that must have signed it.

    Returns:
        The comment that was signed with it.

    Raises:
        BundleError: there is no signature, or it is another key's or another content's.
    """
    library, path = _library(), file.with_name(file.name + SUFFIX)
    if not path.is_file():
        raise BundleError(
            f"{file} is not signed, and a trusted key is set; sign it: peft-dml bundle sign, or leave trusted_key empty"
        )
    try:
        signature = library.Signature.from_bytes(_read(path))
    except library.ParseError as error:
        raise BundleError(f"{path} is no signature in minisign's format: {error}") from error
    try:
        trusted.verify(content, signature)
    except library.VerifyError as error:
        if "key identifiers" in str(error):
            msg = f"{file} was signed by another key than the trusted one, {trusted.to_base64().decode()}"
        else:
            msg = f"{file} or its signature was altered after signing; take the bundle from its source again"
        raise BundleError(msg) from None
    return str(signature.trusted_comment)


def _library() -> Any:
    """Import py-minisign, which only those need who sign or verify."""
    try:
        return import_module("minisign")
    except ModuleNotFoundError:
        msg = "signatures need the Python module 'minisign'; install it: pip install 'peft_dml_ros[signature]'"
        raise ConfigError(msg) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST)
