"""The operation: one decorated function for every change to the world.

    @operation(_("Force off"), needs=OPERATE, when=[RUNNING, PAUSED])
    def force_off(job: Job, machine: Machine) -> None:
        domain(machine).destroy()

The web asks with ``submit``, which writes a job; the agent answers by calling ``run``. Pages, API,
bulk actions and audit all come from this one registration.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from django.db import IntegrityError, transaction
from django.db.models import Model
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from kvmweb.models import ApiToken, Host, Job, Machine, Privilege, State, User
from kvmweb.models.access import Viewer, may
from kvmweb.models.jobs import UNFINISHED
from kvmweb.models.live import announce, wake_agents
from kvmweb.virt.errors import OperationError

Text = str | Promise
OPERATIONS: dict[str, "Operation"] = {}


class Refused(Exception):
    """The operation was not begun. ``fields``: which argument is to blame for which sentence."""

    def __init__(self, sentence: Text, *, fields: dict[str, str] | None = None) -> None:
        super().__init__(str(sentence))
        self.sentence = str(sentence)
        self.fields = fields or {}


class Forbidden(Refused):
    """The person lacks the privilege."""


class Conflict(Refused):
    """The thing is in another state than the operation needs, or is busy with the same."""


class Invalid(Refused):
    """An argument is wrong."""


@dataclass(frozen=True)
class Operation:
    """``deadline`` is in seconds, counted anew at each sign of life (``job.progress``)."""

    function: Callable[..., Any]
    noun: str
    label: Text
    target: type[Model] | None
    arguments: type[BaseModel]
    needs: Privilege
    when: Sequence[State]
    otherwise: Text
    confirm: Text
    icon: str
    is_dangerous: bool
    deadline: float
    overrules: Sequence[str]
    is_for_site: bool
    is_partial: bool
    undo: Callable[[Job], None] | None
    check: Callable[[Any, Any], dict[str, str]] | None
    unless: Callable[[Any], str] | None
    # The name of the function's one argument that takes them all, as a model; or "".
    takes_all: str

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def kind(self) -> str:
        return f"{self.noun}.{self.name}"

    def refusal(self, user: Viewer, target: Model | None = None) -> str | None:
        """Why this may not be done now, as a sentence; None where it may."""
        problem = self._problem(user, target)
        return problem.sentence if problem else None

    def _problem(self, user: Viewer, target: Model | None) -> Refused | None:
        if not may(user, self.needs, target):
            return Forbidden(_lacking(self.needs))
        host = target if isinstance(target, Host) else getattr(target, "host", None)
        if target is not host and isinstance(host, Host) and host.absence:
            return Conflict(host.absence)
        if isinstance(target, Machine) and self.when and target.state not in self.when:
            return Conflict(
                self.otherwise
                or format_lazy(_("The machine is {state}."), state=State(target.state).label)
            )
        sentence = self.unless(target) if self.unless and target is not None else ""
        return Conflict(sentence) if sentence else None

    def validate(self, arguments: dict[str, Any]) -> BaseModel:
        """The arguments as their types say. Raises ``Invalid`` with a sentence per field."""
        try:
            return self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise Invalid(_("Some values need another look."), fields=sentences(error)) from None

    def submit(
        self,
        user: User,
        target: Model | None = None,
        arguments: dict[str, Any] | None = None,
        *,
        token: ApiToken | None = None,
        address: str | None = None,
    ) -> Job:
        """A queued job. Raises ``Forbidden``, ``Conflict`` or ``Invalid`` before it writes."""
        problem = self._problem(user, target)
        if problem:
            raise problem
        filled_in = self.validate(arguments or {})
        fields = self.check(target, filled_in) if self.check else {}
        if fields:
            raise Invalid(_("Some values need another look."), fields=fields)
        job = Job(
            kind=self.kind,
            user=user,
            username=user.username,
            token=token,
            address=address,
            arguments=filled_in.model_dump(mode="json", exclude_unset=self.is_partial),
            **_target_fields(target),
        )
        if self.is_for_site:
            job.host = None
        try:
            with transaction.atomic():
                job.save(force_insert=True)
                self._overrule(job)
                announce(*job.topics)
                wake_agents()
        except IntegrityError:
            raise Conflict(
                format_lazy(
                    _("“{label}” is already under way for {name}."),
                    label=self.label,
                    name=job.target_name,
                )
            ) from None
        return job

    def _overrule(self, job: Job) -> None:
        """What this makes pointless is cancelled, so that it need not be waited for."""
        if self.overrules:
            Job.objects.filter(
                kind__in=self.overrules,
                host=job.host_id,
                target_key=job.target_key,
                state__in=UNFINISHED,
            ).update(is_cancel_asked=True)

    def run(self, job: Job) -> None:
        """Do it, in the agent. Raises ``OperationError`` with the sentence for the person."""
        filled_in = self.validate(job.arguments)
        arguments = {self.takes_all: filled_in} if self.takes_all else dict(filled_in)
        if self.target is None:
            self.function(job, **arguments)
        else:
            self.function(job, self._find(job), **arguments)

    def _find(self, job: Job) -> Model:
        assert self.target is not None
        field = "pk" if self.target is Host else "uuid"
        rows = self.target._default_manager.filter(**{field: job.target_key})
        if self.target is not Host and hasattr(self.target, "host_id"):
            rows = rows.filter(host=job.host_id)
        target = rows.first()
        if target is None:
            raise OperationError(_("%s is not there any more.") % job.target_name)
        return target


def operation(
    label: Text,
    *,
    needs: Privilege,
    when: Sequence[State] = (),
    otherwise: Text = "",
    confirm: Text = "",
    icon: str = "",
    is_dangerous: bool = False,
    deadline: float = 60,
    noun: str = "",
    overrules: Sequence[str] = (),
    is_for_site: bool = False,
    is_partial: bool = False,
    undo: Callable[[Job], None] | None = None,
    check: Callable[[Any, Any], dict[str, str]] | None = None,
    unless: Callable[[Any], str] | None = None,
) -> Callable[[Callable[..., Any]], Operation]:
    """Register the function as an operation of its module's noun, or of ``noun``.

    Its first argument is the job; the second, where it has one by position, is the target; those
    after ``*`` are what the person fills in, checked by their annotations (pydantic).

    ``when``: the states of a machine in which it makes sense, with ``otherwise`` the sentence for
    all others. ``confirm``: what to ask before. ``deadline``: seconds without a sign of life after
    which the agent gives it up. ``overrules``: operations on the same machine that are cancelled
    when this one is asked for. ``is_for_site``: do it in the site's own queue, even if the target
    is a host, so that a host that does not answer can't hold it. ``is_partial``: what was not
    filled in stays unset (pydantic's ``model_fields_set``), and means: as it is. ``undo``: removes
    what a job left half made whose agent died. ``check``: a sentence per field that is wrong, told
    from the target and the arguments before there is a job; it reads the mirror only. ``unless``:
    why the target as the mirror has it forbids this, as a sentence; "" where it does not.

    A function with many arguments takes them as one, a pydantic model.
    """

    def register(function: Callable[..., Any]) -> Operation:
        arguments, takes_all = _arguments(function)
        made = Operation(
            function=function,
            noun=noun or function.__module__.rpartition(".")[2],
            label=label,
            target=_target(function),
            arguments=arguments,
            needs=needs,
            when=tuple(when),
            otherwise=otherwise,
            confirm=confirm,
            icon=icon,
            is_dangerous=is_dangerous,
            deadline=deadline,
            overrules=tuple(overrules),
            is_for_site=is_for_site,
            is_partial=is_partial,
            undo=undo,
            check=check,
            unless=unless,
            takes_all=takes_all,
        )
        OPERATIONS[made.kind] = made
        return made

    return register


def of_noun(noun: str) -> list[Operation]:
    """The operations of a noun, in the order they are written in its module."""
    return [operation for operation in OPERATIONS.values() if operation.noun == noun]


def sentences(error: ValidationError) -> dict[str, str]:
    """Pydantic's findings as one sentence per field, the first of each."""
    found: dict[str, str] = {}
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or "__all__"
        found.setdefault(field, _sentence(problem))
    return found


def _sentence(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    template = _SENTENCES.get(kind)
    return str(template).format(**context) if template else f"{problem['msg']}."


_SENTENCES: dict[str, Text] = {
    "missing": _("This is needed."),
    "extra_forbidden": _("There is no such field."),
    "int_parsing": _("Enter a whole number."),
    "int_type": _("Enter a whole number."),
    "int_from_float": _("Enter a whole number."),
    "float_parsing": _("Enter a number."),
    "string_type": _("Enter text."),
    "string_too_short": _("Enter at least {min_length} characters."),
    "string_too_long": _("Use at most {max_length} characters."),
    "greater_than_equal": _("Enter {ge} or more."),
    "greater_than": _("Enter more than {gt}."),
    "less_than_equal": _("Enter {le} or less."),
    "literal_error": _("Choose one of {expected}."),
    "enum": _("Choose one of {expected}."),
    "bool_parsing": _("Answer yes or no."),
}


def _lacking(privilege: Privilege) -> Text:
    return format_lazy(_("You are not allowed to {privilege}."), privilege=privilege.label)


def _target(function: Callable[..., Any]) -> type[Model] | None:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        return None
    found: type[Model] = get_type_hints(function)[parameters[0].name]
    return found


def _arguments(function: Callable[..., Any]) -> tuple[type[BaseModel], str]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (
            hints[parameter.name],
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name, (hint, _default) in fields.items():
        if inspect.isclass(hint) and issubclass(hint, BaseModel):
            return hint, name
    config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    return create_model(f"{function.__name__}_arguments", __config__=config, **fields), ""


def _target_fields(target: Model | None) -> dict[str, Any]:
    if target is None:
        return {}
    if isinstance(target, Host):
        return {
            "host": target,
            "target_type": "host",
            "target_key": str(target.pk),
            "target_name": target.name,
        }
    return {
        "host": target.host,  # type: ignore[attr-defined]
        "target_type": target._meta.model_name,
        "target_key": str(target.uuid),  # type: ignore[attr-defined]
        "target_name": str(target),
    }
