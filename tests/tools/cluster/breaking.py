"""A control plane that breaks: its processes are killed, paused and restored, and its credentials are rotated."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from cluster.apiserver import ControlPlane

__all__ = ["Authority", "BreakableControlPlane"]

_EXTENSIONS = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")


class Authority:
    """A certificate authority.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._name, self._key.public_key(), is_authority=True)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def issue(self, certificate: Path, key: Path) -> None:
        """Writes a new key, and a certificate for a server on the loopback interface."""
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(self._sign(name, private.public_key()).public_bytes(Encoding.PEM))

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        usages = dict.fromkeys(_EXTENSIONS, False) | {"digital_signature": True}
        usage = x509.KeyUsage(
            **usages, key_cert_sign=is_authority, crl_sign=is_authority, encipher_only=False, decipher_only=False
        )
        return (
            x509.CertificateBuilder(self._name, name, key, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


class BreakableControlPlane(ControlPlane):
    """A control plane whose parts can be broken while clients use it. Its certificate is of an `Authority`."""

    async def kill_apiserver(self) -> None:
        """Kills kube-apiserver with SIGKILL."""
        self._apiserver.kill()
        await self._apiserver.wait()

    async def start_apiserver(self) -> None:
        """Starts kube-apiserver again, on the same port, and waits until it is ready."""
        await self._start_apiserver()

    async def kill_etcd(self) -> None:
        """Kills etcd with SIGKILL."""
        self._etcd.kill()
        await self._etcd.wait()

    async def start_etcd(self) -> None:
        """Starts etcd again, with what it has on disk, and waits until kube-apiserver is ready."""
        await self._start_etcd()
        await self._wait_until_ready(self._etcd, self._apiserver)

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stops kube-apiserver with SIGSTOP: it holds its connections, and answers nothing until this ends."""
        self._apiserver.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._apiserver.send(signal.SIGCONT)

    async def copy_data(self) -> Path:
        """Returns a copy of all that etcd holds now. etcd is away for a moment."""
        copy = self._directory / f"copy-{time.monotonic_ns()}"
        await self.kill_etcd()
        shutil.copytree(self._data, copy)
        await self.start_etcd()
        return copy

    async def copy_snapshot(self, etcdutl: Path) -> Path:
        """Returns the same as `copy_data`, of a snapshot: as `etcdutl snapshot restore` makes it, with later revisions.

        Args:
            etcdutl: The program.
        """
        copy = self._directory / f"copy-{time.monotonic_ns()}"
        snapshot = copy.with_suffix(".db")
        with self._connect_to_etcd() as connection, snapshot.open("wb") as file:
            connection.request("POST", "/v3/maintenance/snapshot", "{}")
            for line in connection.getresponse():
                file.write(base64.b64decode(json.loads(line)["result"].get("blob", "")))
        command = [
            "snapshot",
            "restore",
            str(snapshot),
            f"--data-dir={copy}",
            "--bump-revision=1000000",
            "--mark-compacted",
        ]
        restoring = await self._start("etcdutl", [str(etcdutl), *command])
        assert await restoring.wait() == 0, self._log_tail("etcdutl")
        return copy

    async def restore(self, copy: Path) -> None:
        """Puts a copy back, as Kubernetes says: kube-apiserver is down meanwhile."""
        await self.kill_apiserver()
        await self.kill_etcd()
        shutil.rmtree(self._data)
        shutil.copytree(copy, self._data)
        await self._start_etcd()
        await self._start_apiserver()

    async def rotate_certificate(self, *, new_authority: bool = False) -> None:
        """Restarts kube-apiserver with a new certificate, of the same authority or of a new one.

        An administrator trusts both. What others trust is what they have read of `ca_file`.
        """
        await self.kill_apiserver()
        if new_authority:
            self._write_authority("new")
            self.trust.load_verify_locations(self.ca_file)
        self._authority.issue(*self._certificate)
        await self._start_apiserver()

    def sign_token(self, namespace: str, name: str, *, expires_in_seconds: float) -> str:
        """Returns a token for a service account as kube-apiserver itself would issue it.

        kube-apiserver issues none for less than ten minutes. It accepts one for a minute more than it says.
        """
        now = int(time.time())
        uid = self.request("GET", self.path("v1", "ServiceAccount", namespace, name))["metadata"]["uid"]
        claims = {
            "iss": "https://kubernetes.default.svc",
            "aud": ["https://kubernetes.default.svc"],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "iat": now - 3600,
            "nbf": now - 3600,
            "exp": now + int(expires_in_seconds),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }
        text = ".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
        key = load_pem_private_key(self._signing_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        pair = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encode(b''.join(number.to_bytes(32, 'big') for number in pair))}"

    async def _stop_apiserver(self) -> None:
        # Asked to end, it would wait for its watches.
        await self.kill_apiserver()

    @property
    def ca_file(self) -> Path:
        return self._directory / "authority.pem"

    @property
    def _data(self) -> Path:
        return self._directory / "etcd"

    @property
    def _certificate(self) -> tuple[Path, Path]:
        return self._directory / "apiserver.crt", self._directory / "apiserver.key"

    def _write_secrets(self) -> None:
        super()._write_secrets()
        self._write_authority("first")
        self._authority.issue(*self._certificate)

    def _write_authority(self, name: str) -> None:
        self._authority = Authority(name)
        self.ca_file.write_bytes(self._authority.pem)

    def _apiserver_command(self) -> list[str]:
        certificate, key = self._certificate
        return [*super()._apiserver_command(), f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"]


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
