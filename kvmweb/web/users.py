"""Users: who may sign in, and with which role."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from kvmweb.models import Role, User
from kvmweb.models.access import USERS, may


class UserForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    password = forms.CharField(
        label=gettext_lazy("Password"),
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = User
        fields = ("username", "role", "is_active")
        labels = {"is_active": gettext_lazy("May sign in")}
        help_texts = {
            "username": "",
            "is_active": gettext_lazy("Without the tick open sessions and tokens end at once."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_new = self.instance.pk is None
        self.fields["password"].required = is_new
        if not is_new:
            self.fields["password"].help_text = _("Leave it empty to keep the present one.")
        self.fields["username"].widget.attrs["autocomplete"] = "off"

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if password:
            validate_password(password, self.instance)
        return password

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        is_administrator = cleaned.get("role") == Role.ADMINISTRATOR and cleaned.get("is_active")
        if self.instance.pk and not is_administrator and _is_last_administrator(self.instance.pk):
            self.add_error(
                "role" if cleaned.get("role") != Role.ADMINISTRATOR else "is_active",
                _("This is the last administrator who may sign in. Make somebody else one first."),
            )
        return cleaned

    def save(self, commit: bool = True) -> User:  # noqa: FBT001, FBT002 -- Django's signature
        user: User = super().save(commit=False)
        if self.cleaned_data["password"]:
            user.set_password(self.cleaned_data["password"])
        if commit:
            user.save()
        return user


def _is_last_administrator(pk: int) -> bool:
    """Locks the administrators, so that two of them can't demote each other at once."""
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_active=True)
    return list(administrators.select_for_update().values_list("pk", flat=True)) == [pk]


def _check(request: HttpRequest) -> None:
    if not may(request.user, USERS):
        raise Http404


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    _check(request)
    return render(request, "users/index.html", {"users": User.objects.order_by("username")})


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    _check(request)
    return _edit(request, User())


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    _check(request)
    return _edit(request, get_object_or_404(User, pk=pk))


@transaction.atomic
def _edit(request: HttpRequest, user: User) -> HttpResponse:
    name = user.username
    form = UserForm(request.POST or None, instance=user)
    if request.method == "POST" and form.is_valid():
        saved = form.save()
        messages.success(request, _("The user “%s” is saved.") % saved.username)
        return redirect("users")
    status = 422 if request.method == "POST" else 200
    return render(request, "users/edit.html", {"form": form, "name": name}, status=status)
