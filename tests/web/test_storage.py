"""Pools and their volumes."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from kvmweb.models import Pool

pytestmark = pytest.mark.django_db


def test_the_list_shows_how_full_a_pool_is(viewer: Client, images: Pool) -> None:
    text = viewer.get("/storage/").content.decode()
    for part in ("images", "/pool", 'aria-valuenow="80"', "20 GiB free"):
        assert part in text


def test_the_page_of_a_pool_lists_its_volumes_in_pages(viewer: Client, images: Pool) -> None:
    for number in range(60):
        images.volumes.create(name=f"x{number:02}", xml="<volume/>")
    text = viewer.get(f"/storage/{images.uuid}").content.decode()
    for part in ("web1.qcow2", "8 GiB", "62 volumes", "Next"):
        assert part in text
    assert "x59" not in text


def test_an_inactive_pool_says_why_it_shows_no_volumes(viewer: Client, images: Pool) -> None:
    images.volumes.all().delete()
    Pool.objects.update(is_active=False)
    text = viewer.get(f"/storage/{images.uuid}").content.decode()
    assert "known while it is active" in text


def test_the_page_needs_few_queries(
    viewer: Client, images: Pool, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(6):  # session, user, pool, volumes, count, running jobs
        viewer.get(f"/storage/{images.uuid}")


def test_a_stranger_finds_no_pool(stranger: Client, images: Pool) -> None:
    assert str(images.uuid) not in stranger.get("/storage/").content.decode()
    assert stranger.get(f"/storage/{images.uuid}").status_code == 404
