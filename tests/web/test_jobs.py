"""Jobs: the list, the panel, the page of one, and cancelling."""

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from lxml import html
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Job, JobState, Machine, User

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def make_job(user: User, **fields: Any) -> Job:
    given = {"kind": "machines.start", "state": JobState.DONE, **fields}
    return Job.objects.create(user=user, username=user.username, **given)


def _text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.status_code
    return " ".join(unescape(answer.content.decode()).split())


def test_the_page_shows_everything_that_is_known(admin: Client, alice: User, web1: Machine) -> None:
    now = timezone.now()
    job = make_job(
        alice,
        host=web1.host,
        target_type="machine",
        target_key=str(web1.uuid),
        target_name="web1",
        address="192.0.2.1",
        arguments={"volumes": ["/pool/a b.qcow2"]},
        commands=[["virsh", "start", "it's"], ["virsh", "vol-delete", "/pool/a b.qcow2"]],
        log="10:00:00 Starting\n",
        started=now,
        ended=now + timedelta(seconds=1.5),
    )
    answer = admin.get(f"/jobs/{job.pk}")
    text = _text(answer)
    for part in (
        "Start: web1",
        "done",
        "192.0.2.1",
        "took 1.5 s",
        "10:00:00 Starting",
        "a b.qcow2",
    ):
        assert part in text
    commands = html.fromstring(answer.content).get_element_by_id("commands").text_content()
    assert commands == """virsh start 'it'"'"'s'\nvirsh vol-delete '/pool/a b.qcow2'\n"""
    assert "data-live" not in text.split('id="job"')[1].split(">")[0]


def test_an_unfinished_one_follows_itself_and_can_be_cancelled(admin: Client, alice: User) -> None:
    job = make_job(alice, state=JobState.RUNNING, percent=40, message="Copying")
    answer = admin.get(f"/jobs/{job.pk}")
    assert f'data-live="job:{job.pk}"' in _text(answer)
    assert 'value="40"' in _text(answer)
    assert admin.post(f"/jobs/{job.pk}/cancel", headers=HTMX).status_code == 204
    assert Job.objects.get().is_cancel_asked
    assert "Cancelling…" in _text(admin.get(f"/jobs/{job.pk}", {"fragment": "job"}))


def test_a_waiting_one_is_cancelled_at_once(admin: Client, alice: User) -> None:
    job = make_job(alice, state=JobState.QUEUED)
    assert admin.post(f"/jobs/{job.pk}/cancel").status_code == 302
    assert Job.objects.get().state == JobState.CANCELLED


def test_cancelling_is_refused_with_a_sentence(
    operator: Client, alice: User, web1: Machine
) -> None:
    job = make_job(alice, state=JobState.RUNNING)
    answer = operator.post(f"/jobs/{job.pk}/cancel", headers=HTMX)
    assert "Only the person who asked for it" in _text(answer, 403)
    done = make_job(alice)
    assert operator.get(f"/jobs/{done.pk}/cancel").status_code == 405


def test_an_ended_one_is_not_cancelled(admin: Client, alice: User) -> None:
    job = make_job(alice)
    answer = admin.post(f"/jobs/{job.pk}/cancel", headers=HTMX)
    assert "The job has ended already." in _text(answer, 409)


def test_the_list_is_filtered_by_state_and_paged_newest_first(admin: Client, alice: User) -> None:
    now = timezone.now()
    for number in range(60):
        job = make_job(alice, target_name=f"m{number:02}")
        Job.objects.filter(pk=job.pk).update(created=now - timedelta(minutes=number))
    make_job(alice, state=JobState.FAILED, error="It broke.", target_name="broken")
    failed = _text(admin.get("/jobs/", {"state": "failed"}))
    assert "It broke." in failed
    assert "m01" not in failed
    first = admin.get("/jobs/")
    link = html.fromstring(first.content).xpath("//nav[@class='pager']/a/@href")[0]
    second = admin.get("/jobs/" + link)
    assert "broken" in _text(first)
    assert "m48" in _text(first)
    assert "m49" in _text(second)
    assert "m59" in _text(second)


def test_the_list_needs_few_queries(
    admin: Client, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _number in range(40):
        make_job(alice)
    with django_assert_num_queries(4):  # session, user, jobs, running jobs
        admin.get("/jobs/")


def test_the_panel_shows_what_runs_and_what_ended_lately(admin: Client, alice: User) -> None:
    make_job(alice, state=JobState.RUNNING, message="Waiting for the guest")
    make_job(alice, state=JobState.FAILED, error="It broke.")
    old = make_job(alice, target_name="long-ago")
    Job.objects.filter(pk=old.pk).update(created=timezone.now() - timedelta(hours=2))
    text = _text(admin.get("/jobs/panel"))
    assert "Waiting for the guest" in text
    assert "It broke." in text
    assert "long-ago" not in text
    assert ">1<" in _text(admin.get("/jobs/panel", {"fragment": "button"}))


def test_the_toast_ends_with_the_job(admin: Client, alice: User) -> None:
    job = make_job(alice, state=JobState.RUNNING)
    assert "data-live" in _text(admin.get(f"/jobs/{job.pk}", {"fragment": "toast"}))
    Job.objects.update(state=JobState.DONE)
    toast = _text(admin.get(f"/jobs/{job.pk}", {"fragment": "toast"}))
    assert "data-live" not in toast
    assert "data-dismiss-after" in toast
    Job.objects.update(state=JobState.FAILED, error="It broke.")
    toast = _text(admin.get(f"/jobs/{job.pk}", {"fragment": "toast"}))
    assert "It broke." in toast
    assert "data-dismiss-after" not in toast


def test_a_stranger_sees_only_the_own_jobs(stranger: Client, alice: User, charlie: User) -> None:
    job = make_job(alice, target_name="secret-machine")
    assert "secret-machine" not in _text(stranger.get("/jobs/"))
    assert "secret-machine" not in _text(stranger.get("/jobs/panel"))
    assert stranger.get(f"/jobs/{job.pk}").status_code == 404
    assert stranger.post(f"/jobs/{job.pk}/cancel").status_code == 404
    own = make_job(charlie)
    assert stranger.get(f"/jobs/{own.pk}").status_code == 200


def test_a_job_of_a_kind_that_is_gone_is_still_shown(admin: Client, alice: User) -> None:
    job = make_job(alice, kind="machines.from_an_older_version")
    assert "machines.from_an_older_version" in _text(admin.get(f"/jobs/{job.pk}"))
