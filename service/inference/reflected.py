"""What server reflection looks descriptors up in."""

from typing import Any

from google.protobuf import descriptor_pool

from protos.inference import inference_service_pb2 as oip

_POOLS: tuple[Any, ...] = (descriptor_pool.Default(), oip.DESCRIPTOR.pool)


class BothPools:
    """The default pool and the protocol's own one, for reading; named like the methods of a DescriptorPool.

    Each raises KeyError for what is in neither.
    """

    def FindFileByName(self, name: str) -> Any:  # noqa: N802
        """A file."""
        return _first("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:  # noqa: N802
        """The file of a service, procedure, message or field."""
        return _first("FindFileContainingSymbol", name)

    def FindMessageTypeByName(self, name: str) -> Any:  # noqa: N802
        """A message."""
        return _first("FindMessageTypeByName", name)

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:  # noqa: N802
        """An extension of a message."""
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Any) -> Any:  # noqa: N802
        """Every extension of a message."""
        return message.file.pool.FindAllExtensions(message)


def _first(method: str, name: str) -> Any:
    for pool in _POOLS:
        try:
            return getattr(pool, method)(name)
        except KeyError:
            continue
    raise KeyError(name)
