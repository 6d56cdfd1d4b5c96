"""``manage.py token``: for people at the host's own prompt, and for scripts."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from kvmweb.models import ApiToken, User


def _token(*arguments: str) -> str:
    output = StringIO()
    call_command("token", *arguments, stdout=output)
    return output.getvalue()


def test_it_prints_a_token_that_works_and_only_that(people: dict[str, User]) -> None:
    printed = _token("bob", "--name", "backup")
    assert printed.startswith(ApiToken.PREFIX)
    assert printed.count("\n") == 1
    found = ApiToken.find(printed.strip())
    assert found is not None
    assert (found.user, found.name) == (people["bob"], "backup")


def test_an_unknown_or_disabled_user_gets_none(people: dict[str, User]) -> None:
    User.objects.filter(username="bob").update(is_active=False)
    for name in ("bob", "mallory"):
        with pytest.raises(CommandError, match=name):
            _token(name)
    assert not ApiToken.objects.exists()
