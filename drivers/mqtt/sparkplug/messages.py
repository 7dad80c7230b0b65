"""The Sparkplug B payload as protobuf classes, described here by the field numbers of the specification (chapter 6).

Data sets, templates and extensions are not described: a reader keeps them as unknown fields and passes over them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
PACKAGE = "headroom.sparkplug"
SCALARS = {
    "u32": Field.TYPE_UINT32,
    "u64": Field.TYPE_UINT64,
    "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE,
    "bool": Field.TYPE_BOOL,
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
}
# Message -> number, name, kind. `*` is repeated, `|` is one of the alternatives of the message's value.
FIELDS: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Payload": (
        (1, "timestamp", "u64"),
        (2, "metrics", "Metric*"),
        (3, "seq", "u64"),
        (4, "uuid", "string"),
        (5, "body", "bytes"),
    ),
    "Metric": (
        (1, "name", "string"),
        (2, "alias", "u64"),
        (3, "timestamp", "u64"),
        (4, "datatype", "u32"),
        (5, "is_historical", "bool"),
        (6, "is_transient", "bool"),
        (7, "is_null", "bool"),
        (9, "properties", "PropertySet"),
        (10, "int_value", "u32|"),
        (11, "long_value", "u64|"),
        (12, "float_value", "float|"),
        (13, "double_value", "double|"),
        (14, "boolean_value", "bool|"),
        (15, "string_value", "string|"),
        (16, "bytes_value", "bytes|"),
    ),
    "PropertySet": ((1, "keys", "string*"), (2, "values", "PropertyValue*")),
    "PropertyValue": (
        (1, "type", "u32"),
        (2, "is_null", "bool"),
        (3, "int_value", "u32|"),
        (4, "long_value", "u64|"),
        (5, "float_value", "float|"),
        (6, "double_value", "double|"),
        (7, "boolean_value", "bool|"),
        (8, "string_value", "string|"),
    ),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="headroom/sparkplug_b.proto", package=PACKAGE, syntax="proto2")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        if any(kind.endswith("|") for _, _, kind in fields):
            message.oneof_decl.add(name="value")
        for number, field_name, kind in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
            if kind.endswith("|"):
                field.oneof_index = 0
            bare = kind.rstrip("*|")
            if bare in SCALARS:
                field.type = SCALARS[bare]
            else:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{bare}"
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
Payload: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.Payload"))
