"""Builds the arguments of the requests to an endpoint, and adapts them to what it refuses."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from jobs.config.models import RESPONSES
from jobs.summary import COMPACT

from .chat import request as chat_request
from .chat.unsupported import check as check_chat
from .responses import request as responses_request
from .summaries import PARAMETER, check
from .truncation import shorten

if TYPE_CHECKING:
    from jobs.record import Job
    from worker.config import Config, Endpoint

    from .model_errors import Refused


class ArgumentBuilder:
    """Builds the arguments for all endpoints, without those that an endpoint has refused before."""

    def __init__(self, config: Config) -> None:
        self._config = config
        # The names of the arguments that an endpoint has refused, by the name of the endpoint.
        self._refused: defaultdict[str, set[str]] = defaultdict(set)

    def model(self, job: Job, endpoint: Endpoint) -> str:
        """Returns the name by which the endpoint knows the job's model."""
        name: str = endpoint.upstream or job.params.get("model") or self._config.model
        return name

    def for_count(self, job: Job, endpoint: Endpoint) -> dict[str, Any]:
        """Returns the arguments with which a Responses endpoint counts the job's input tokens."""
        model = self.model(job, endpoint)
        return self._accepted(endpoint, responses_request.counting(job, model=model))

    def for_answer(self, job: Job, endpoint: Endpoint) -> dict[str, Any]:
        """Returns the job's request as arguments for the endpoint's API.

        Raises: UnsupportedInput, SummaryNeeded.
        """
        model = self.model(job, endpoint)
        if endpoint.api == RESPONSES:
            if job.params.get(COMPACT):
                return self._accepted(endpoint, responses_request.compaction(job, model=model))
            if PARAMETER in self._refused[endpoint.name]:
                check(job)
            background = endpoint.background and job.params.get("store") is not False
            return self._accepted(
                endpoint, responses_request.request(job, model=model, background=background)
            )
        check_chat(job.params)
        check(job)
        sent = chat_request.completion(
            job,
            default_model=self._config.model,
            limit=limit_name(endpoint),
            asked=endpoint.name,
            drops_tools=self._config.drops(job.params.get("model")),
        )
        if not endpoint.stream_options:
            del sent["stream_options"]
        return self._accepted(endpoint, sent | {"model": model})

    def adapt(
        self,
        job: Job,
        endpoint: Endpoint,
        arguments: dict[str, Any],
        error: Refused,
        fixed: frozenset[str],
    ) -> bool:
        """Changes the arguments after a refusal, so that the endpoint may accept them.

        The arguments whose names are in `fixed` are not changed. Returns False if no change of the
        arguments can help.
        """
        if fixed and (error.parameter in fixed or error.parameter not in arguments):
            return False
        if error.parameter in arguments:
            self._refused[endpoint.name].add(error.parameter)
            del arguments[error.parameter]
            return True
        return error.code == "upstream_input_too_long" and shorten(job, arguments)

    def _accepted(self, endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments without those that the endpoint has refused before."""
        refused = self._refused[endpoint.name]
        return {name: value for name, value in arguments.items() if name not in refused}


def limit_name(endpoint: Endpoint) -> str:
    """Returns the endpoint's name for the parameter that limits the output tokens."""
    return endpoint.output_limit or chat_request.limit_name(endpoint.base_url)
