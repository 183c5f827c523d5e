"""From what the service says of models, methods and metrics to values."""

from collections.abc import Iterable

from whylight_client import descriptions as d
from whylight_client._protos.explain.v1 import quality_pb2, types_pb2
from whylight_client.from_messages import name_of


def to_model(message: types_pb2.Model) -> d.ModelInfo:
    """A model."""
    return d.ModelInfo(
        name=message.name,
        version=message.version,
        state=name_of(types_pb2.ModelState, message.state),
        description=message.description,
        architecture=message.architecture,
        weights_digest=message.weights_digest,
        preprocessing_digest=message.preprocessing_digest,
        input_size=(message.input_height, message.input_width),
        class_count=message.class_count,
        labels=tuple(message.labels),
        activation=name_of(types_pb2.Activation, message.activation),
        target_layer=_layer(message.target_layer) if message.HasField("target_layer") else None,
        layers=tuple(map(_layer, message.layers)),
        methods=tuple(each.method for each in message.methods if each.supported),
        unsupported={each.method: each.reason for each in message.methods if not each.supported},
        device=message.device,
        library_versions=dict(message.library_versions),
        sanity_checks=tuple(
            d.SanityCheck(each.method, each.rank_correlation, each.passed) for each in message.sanity_checks
        ),
    )


def to_method(message: types_pb2.MethodInfo) -> d.MethodInfo:
    """A method."""
    return d.MethodInfo(
        name=message.name,
        title=message.title,
        reference=message.reference,
        description=message.description,
        parameters=_parameters(message.parameters),
        requirement=message.requirement,
        models=tuple(message.models),
        lane=name_of(types_pb2.Lane, message.lane),
        expected_seconds={
            each.model: each.seconds if each.HasField("seconds") else None for each in message.expected_costs
        },
    )


def to_metric(message: types_pb2.MetricInfo) -> d.MetricInfo:
    """A metric."""
    return d.MetricInfo(
        name=message.name,
        title=message.title,
        formula=message.formula,
        reference=message.reference,
        higher_is_better=message.direction == quality_pb2.METRIC_DIRECTION_HIGHER,
        unit=message.unit,
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        parameters=_parameters(message.parameters),
        description=message.description,
        compares=message.compares,
        lane=name_of(types_pb2.Lane, message.lane),
    )


def _layer(message: types_pb2.Layer) -> d.Layer:
    return d.Layer(message.path, message.channels, message.height, message.width)


def _parameters(messages: Iterable[types_pb2.ParameterInfo]) -> tuple[d.ParameterInfo, ...]:
    return tuple(
        d.ParameterInfo(
            name=each.name,
            type=name_of(types_pb2.ParameterType, each.type),
            default=each.default_value,
            minimum=each.minimum if each.HasField("minimum") else None,
            maximum=each.maximum if each.HasField("maximum") else None,
            description=each.description,
        )
        for each in messages
    )
