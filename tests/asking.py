"""Asking a served site for operations, as a program would, and waiting for how they end."""

from typing import Any

import httpx

from tests.waiting import until

Answer = dict[str, Any]


class Asker:
    """``api`` is a client of /api/v1."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api

    def get(self, path: str) -> Any:
        answer = self.api.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def do(self, path: str, *, method: str = "POST", **body: Any) -> Answer:
        """The job's result. Fails with the job's error, or with why there was no job."""
        answer = self.api.request(method, path, json=body)
        assert answer.status_code in (200, 202), answer.text
        job: Answer = answer.json()
        ended = job if job["state"] in ("done", "failed") else self._ended(job["id"])
        assert ended["state"] == "done", f"{path}: {ended['error']}"
        return dict(ended["result"])

    def _ended(self, job: str) -> Answer:
        def ended() -> Answer | None:
            row: Answer = self.get(f"/jobs/{job}")
            return None if row["state"] in ("queued", "running") else row

        found = until(ended, seconds=60, what=f"job {job} to end")
        assert found
        return found
