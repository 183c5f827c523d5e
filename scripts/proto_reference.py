"""A page of reference from the public .proto files and their comments.

Made while the site is built (scripts/site_hooks.py), so that it can't be out of date;
`python -m scripts.proto_reference` prints it.
"""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2 as pb
from grpc_tools import protoc

from scripts.generate_protos import PROTOS, copy_google_protos

PUBLIC = PROTOS / "explain" / "v1"
HEAD = """\
# API reference

Made from the comments of `protos/explain/v1/` when these pages are built. A field that is not sent has its type's zero;
one that is *optional* can be told from that. [Who may call what](../security.md#clients-and-tokens).
"""
Field = pb.FieldDescriptorProto
# Field numbers of descriptor.proto, of which the path to a comment is made.
MESSAGES, ENUMS, SERVICES, SYNTAX = 4, 5, 6, 12
FIELDS, NESTED, ONEOFS, VALUES, METHODS = 2, 3, 8, 2, 2


def page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "".join(_file(file) for file in descriptors())


def descriptors() -> list[pb.FileDescriptorProto]:
    """Ours, with comments, the service's own file first."""
    with tempfile.TemporaryDirectory() as folder:
        copy_google_protos(Path(folder))
        includes = [f"-I{PROTOS}", f"-I{folder}", f"-I{resources.files('grpc_tools') / '_proto'}"]
        made = Path(folder) / "set"
        sources = sorted(str(path.relative_to(PROTOS)) for path in PUBLIC.glob("*.proto"))
        if protoc.main(["protoc", *includes, "--include_source_info", f"--descriptor_set_out={made}", *sources]) != 0:
            sys.exit("protoc failed")
        files = pb.FileDescriptorSet.FromString(made.read_bytes()).file
    return sorted(files, key=lambda file: (not file.service, file.name))


@dataclass(frozen=True)
class Comments:
    """The comments of a file by the path of what they stand before."""

    by_path: dict[tuple[int, ...], str]

    @classmethod
    def of(cls, file: pb.FileDescriptorProto) -> "Comments":
        """Those before a declaration, without what is for tools."""
        kept = {}
        for location in file.source_code_info.location:
            lines = location.leading_comments.splitlines()
            kept[tuple(location.path)] = "\n".join(line.strip() for line in lines if "buf:lint" not in line).strip()
        return cls(kept)

    def text(self, *path: int) -> str:
        """As Markdown; paragraphs stay."""
        return escaped(self.by_path.get(path, ""))

    def line(self, *path: int) -> str:
        """For a cell of a table."""
        return " ".join(self.text(*path).split())


def escaped(text: str) -> str:
    """Text in which nothing is Markdown but what stands in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]|<$])", _entity, part) for part in parts)


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match.group())};"


def _file(file: pb.FileDescriptorProto) -> str:
    comments = Comments.of(file)
    name = Path(file.name).name
    parts = [f"\n## {name} {{#{Path(name).stem}}}\n", comments.text(SYNTAX)]
    for index, service in enumerate(file.service):
        parts.append("\n".join(_service(service, comments, (SERVICES, index))))
    for index, message in enumerate(file.message_type):
        parts.extend(_message(message, comments, (MESSAGES, index)))
    for index, enum in enumerate(file.enum_type):
        parts.append(_enum(enum, comments, (ENUMS, index)))
    return "\n".join(parts) + "\n"


def _service(service: pb.ServiceDescriptorProto, comments: Comments, path: Sequence[int]) -> Iterator[str]:
    yield f"\n### {service.name} {{#{service.name}}}\n\n{comments.text(*path)}\n"
    yield _row("procedure", "takes", "answers", "")
    yield _row(*["---"] * 4)
    for index, method in enumerate(service.method):
        answer = ("stream of " if method.server_streaming else "") + _reference(method.output_type)
        yield _row(f"`{method.name}`", _reference(method.input_type), answer, comments.line(*path, METHODS, index))


def _message(message: pb.DescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield f"\n### {message.name} {{#{message.name}}}\n\n{comments.text(*path)}\n"
    if message.field:
        yield _row("field", "type", "number", "")
        yield _row(*["---"] * 4)
    for index, field in enumerate(message.field):
        comment = comments.line(*path, FIELDS, index)
        yield _row(f"`{field.name}`", _type(field, message), str(field.number), _choice(field, message) + comment)
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(nested, comments, (*path, NESTED, index))


def _enum(enum: pb.EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> str:
    rows = [
        _row(f"`{value.name}`", str(value.number), comments.line(*path, VALUES, index))
        for index, value in enumerate(enum.value)
    ]
    head = f"\n### {enum.name} {{#{enum.name}}}\n\n{comments.text(*path)}\n"
    return "\n".join([head, _row("value", "number", ""), _row(*["---"] * 3), *rows])


def _choice(field: Field, message: pb.DescriptorProto) -> str:
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return f"(One of *{escaped(message.oneof_decl[field.oneof_index].name)}*.) "


def _type(field: Field, message: pb.DescriptorProto) -> str:
    for nested in message.nested_type:
        if nested.options.map_entry and field.type_name.endswith("." + nested.name):
            key, value = nested.field
            return f"map of {_type(key, message)} to {_type(value, message)}"
    label = "repeated " if field.label == Field.LABEL_REPEATED else "optional " if field.proto3_optional else ""
    return label + (_reference(field.type_name) if field.type_name else Field.Type.Name(field.type)[5:].lower())


def _reference(full_name: str) -> str:
    """A link to a type of ours, or the name of somebody else's."""
    name = full_name.removeprefix(".explain.v1.")
    return f"`{full_name.lstrip('.')}`" if name == full_name else f"[{name}](#{name})"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(page())
