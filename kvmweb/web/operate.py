"""Asking for an operation from a page: its dialog, the asking, and how it ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_origin

from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from kvmweb.models import Job, JobState, User
from kvmweb.operations.operation import OPERATIONS, Conflict, Forbidden, Operation, Refused

# Quick work is answered at once; longer work goes on in a toast.
WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class Input:
    """One argument of an operation, as a form shows it. ``kind``: text, number or checkbox."""

    name: str
    label: str
    hint: str
    kind: str
    value: Any
    error: str
    is_required: bool


@dataclass(frozen=True)
class Asking:
    """``back`` is where a page without htmx returns to, ``after`` where to go when it is done
    (None: stay). ``extra`` is for the template of the form. ``read``: arguments of what was sent,
    where a form has other inputs than the operation has arguments.
    """

    request: HttpRequest
    operation: Operation
    target: Model | None
    back: str
    template: str = "operations/_form.html"
    extra: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Job], str | None] = lambda job: None
    read: Callable[[Operation, QueryDict], dict[str, Any]] | None = None

    def answer(self) -> HttpResponse:
        return self._submit() if self.request.method == "POST" else self.form({}, {})

    def _submit(self) -> HttpResponse:
        arguments = (self.read or arguments_of)(self.operation, self.request.POST)
        try:
            job = submit(self.request, self.operation, self.target, arguments)
        except Refused as refused:
            return self._refused(refused, arguments)
        job.wait(WAIT_SECONDS)
        if job.state == JobState.FAILED and arguments:
            return self.form(arguments, {job.error_field: job.error}, status=422)
        if job.state == JobState.DONE and (address := self.after(job)):
            return self._leave(job, address)
        return self._told(job)

    def form(
        self, arguments: dict[str, Any], errors: dict[str, str], *, status: int = 200, **more: Any
    ) -> HttpResponse:
        """The form with what was typed and a sentence at each field that is wrong."""
        inputs = inputs_of(self.operation, arguments or self.extra.get("values", {}), errors)
        known = {one.name for one in inputs}
        context = {
            "operation": self.operation,
            "target": self.target,
            "inputs": inputs,
            "arguments": arguments,
            "errors": errors,
            "form_error": " ".join(text for name, text in errors.items() if name not in known),
            "action": self.request.get_full_path(),
            "refusal": self.operation.refusal(self.request.user, self.target),
            "template": self.template,
            "back": self.back,
            "is_dialog": is_htmx(self.request),
            **self.extra,
            **more,
        }
        page = self.template if is_htmx(self.request) else "operations/page.html"
        return render(self.request, page, context, status=status)

    def _refused(self, refused: Refused, arguments: dict[str, Any]) -> HttpResponse:
        if self.operation.arguments.model_fields and not isinstance(refused, Forbidden):
            errors = refused.fields or {"": refused.sentence}
            return self.form(arguments, errors, status=status_of(refused))
        if is_htmx(self.request):
            context = {"text": refused.sentence, "kind": "error"}
            status = status_of(refused)
            return render(self.request, "operations/_refused.html", context, status=status)
        messages.error(self.request, refused.sentence)
        return redirect(self.back)

    def _told(self, job: Job) -> HttpResponse:
        if is_htmx(self.request):
            response = render(self.request, "operations/_told.html", {"job": job})
            response["HX-Trigger"] = "closedialog"
            return response
        if not job.is_finished:
            return redirect("job", job.pk)
        tell(self.request, job)
        return redirect(self.back)

    def _leave(self, job: Job, address: str) -> HttpResponse:
        tell(self.request, job)
        if not is_htmx(self.request):
            return redirect(address)
        return HttpResponse(headers={"HX-Redirect": address})


def is_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def submit(
    request: HttpRequest, operation: Operation, target: Model | None, arguments: dict[str, Any]
) -> Job:
    """The job of the person who sent this request. Raises ``Refused``."""
    assert isinstance(request.user, User)
    address = request.META.get("REMOTE_ADDR") or None
    return operation.submit(request.user, target, arguments, address=address)


def status_of(refused: Refused) -> int:
    if isinstance(refused, Forbidden):
        return 403
    return 409 if isinstance(refused, Conflict) else 422


def tell(request: HttpRequest, job: Job) -> None:
    """Say on the next page how the job ended."""
    name = job.target_name or job.result.get("name", "")
    label = f"{job_label(job)}: {name}" if name else str(job_label(job))
    if job.state == JobState.DONE:
        messages.success(request, _("%(label)s. Done.") % {"label": label})
    else:
        messages.error(request, f"{label}. {job.error or job.get_state_display()}")


def job_label(job: Job) -> Any:
    operation = OPERATIONS.get(job.kind)
    return operation.label if operation else job.kind


def arguments_of(operation: Operation, data: QueryDict) -> dict[str, Any]:
    """What was filled in. A box that is not ticked says no; a list that is not there is empty."""
    arguments: dict[str, Any] = {}
    for name, argument in operation.arguments.model_fields.items():
        if argument.annotation is bool:
            arguments[name] = data.get(name) in ("1", "on", "true")
        elif get_origin(argument.annotation) is list:
            arguments[name] = data.getlist(name)
        elif name in data:
            arguments[name] = data[name]
    return arguments


def inputs_of(operation: Operation, values: dict[str, Any], errors: dict[str, str]) -> list[Input]:
    kinds = {bool: "checkbox", int: "number"}
    return [
        Input(
            name=name,
            label=argument.title or name,
            hint=argument.description or "",
            kind=kinds.get(argument.annotation, "text"),  # type: ignore[arg-type]
            value=values.get(name, "" if argument.is_required() else argument.get_default()),
            error=errors.get(name, ""),
            is_required=argument.is_required(),
        )
        for name, argument in operation.arguments.model_fields.items()
    ]
