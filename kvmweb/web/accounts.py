"""One's own account: the password, and tokens for programs. Signing in is django-allauth's."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import LoginForm
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from kvmweb.models import ApiToken, User


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Accounts are made by administrators."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SignInForm(LoginForm):  # type: ignore[misc]
    """Without the link to a password reset by mail: an administrator sets a new one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"].help_text = ""
        self.fields["login"].widget.attrs["autofocus"] = True
        self.fields["remember"].label = _("Stay signed in")
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]  # no generic at run time
    class Meta:
        model = ApiToken
        fields = ("name",)
        labels = {"name": gettext_lazy("What it is for")}


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return _page(request, TokenForm())


def _page(request: HttpRequest, form: TokenForm, *, status: int = 200, **more: Any) -> HttpResponse:
    assert isinstance(request.user, User)
    context = {"tokens": request.user.api_tokens.order_by("-created"), "form": form, **more}
    return render(request, "account/page.html", context, status=status)


@require_POST
@never_cache
def add_token(request: HttpRequest) -> HttpResponse:
    """The answer shows the token's text, this once; a second submission makes another token."""
    assert isinstance(request.user, User)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    token, text = ApiToken.issue(request.user, form.cleaned_data["name"])
    return _page(request, TokenForm(), fresh=token, text=text)


@require_POST
def remove_token(request: HttpRequest, pk: int) -> HttpResponse:
    assert isinstance(request.user, User)
    token = get_object_or_404(request.user.api_tokens, pk=pk)
    token.delete()
    messages.success(request, _("The token “%s” is removed.") % token.name)
    return redirect("account")
