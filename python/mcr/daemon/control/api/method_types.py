"""The types of the protocol's methods: what each takes and answers."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel

from ....json_codec import JsonObject
from ....protocol.results import (
    ChangeResult,
    ConfigurationResult,
    DaemonConfiguration,
    DaemonStats,
    EventPosition,
    ExplanationList,
    FlowList,
    Hello,
    HostChanges,
    InterfaceList,
    LogLevels,
    Nothing,
    Pong,
    RuleList,
    RuleResult,
    ShapingInfo,
    TapStarted,
    WorkerList,
)
from . import params


class MethodTypes(NamedTuple):
    """The types of a method's parameters and result."""

    params: type[BaseModel]
    result: type[JsonObject]
    observes: bool = False
    """Whether it only shows numbers and states, so that observers may use it."""


METHOD_TYPES: Mapping[str, MethodTypes] = {
    "hello": MethodTypes(params.HelloParams, Hello, observes=True),
    "ping": MethodTypes(params.NoParams, Pong, observes=True),
    "rules.list": MethodTypes(params.SelectionParams, RuleList, observes=True),
    "rules.get": MethodTypes(params.RuleParams, RuleResult, observes=True),
    "rules.add": MethodTypes(params.AddParams, ChangeResult),
    "rules.remove": MethodTypes(params.RefsParams, ChangeResult),
    "rules.enable": MethodTypes(params.RefsParams, ChangeResult),
    "rules.disable": MethodTypes(params.RefsParams, ChangeResult),
    "rules.replace": MethodTypes(params.ReplaceParams, ChangeResult),
    "rules.apply": MethodTypes(params.ApplyParams, ConfigurationResult),
    "config.get": MethodTypes(params.NoParams, DaemonConfiguration, observes=True),
    "config.reload": MethodTypes(params.ReloadParams, ConfigurationResult),
    "rules.edit": MethodTypes(params.EditParams, ChangeResult),
    "shaping.get": MethodTypes(params.NoParams, ShapingInfo, observes=True),
    "shaping.change": MethodTypes(params.ShapingParams, ShapingInfo),
    "stats": MethodTypes(params.SelectionParams, DaemonStats, observes=True),
    "flows": MethodTypes(params.FlowsParams, FlowList, observes=True),
    "explain": MethodTypes(params.ExplainParams, ExplanationList, observes=True),
    "taps.start": MethodTypes(params.TapParams, TapStarted),
    "workers.list": MethodTypes(params.NoParams, WorkerList, observes=True),
    "interfaces.list": MethodTypes(params.NoParams, InterfaceList, observes=True),
    "logs.get": MethodTypes(params.NoParams, LogLevels, observes=True),
    "logs.set": MethodTypes(params.LogsParams, LogLevels),
    "events.subscribe": MethodTypes(params.SubscribeParams, EventPosition, observes=True),
    "events.unsubscribe": MethodTypes(params.NoParams, Nothing, observes=True),
    "hosts.resolve": MethodTypes(params.NoParams, HostChanges),
    "shutdown": MethodTypes(params.NoParams, Nothing),
}
