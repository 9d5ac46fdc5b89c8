"""A stand-in for boto3's CloudFormation client, with time, lag, throttling and fates that tests control.

An operation is planned when it begins, and its steps are taken when the clock is read: nothing sleeps, and
there are no threads. The real `CfnHelper` and `CloudFormationNodeStacks` run on it unchanged.
"""

import random
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes import cfn_plans
from tests.fakes.aws_client import Answer, Chance, Clock, FakeAwsClient, operation
from tests.fakes.cfn_account import Account, Sight
from tests.fakes.cfn_answers import described_event, described_resource, stack_summary
from tests.fakes.cfn_rules import deletion_refused, name_refused
from tests.fakes.cfn_stack import Stack, Step
from tests.fakes.cfn_template import TemplateError, parse
from tests.fakes.fate import Durations, Fate, all_well


class FakeCloudFormation(FakeAwsClient):
    """CloudFormation in memory.

    Reading operations return a state that is up to `lag` seconds old, drawn from `rng` for each call; or that
    is as old as the function `lag` returns. Lists have pages of `page` entries.
    """

    service = "cloudformation"
    refusal_code = "ValidationError"
    throttling_code = "Throttling"

    def __init__(
        self,
        clock: Clock,
        *,
        fate: Callable[[str], Fate] = all_well,
        durations: Durations | None = None,
        lag: float | Callable[[], float] = 0.0,
        limit: int = 2000,
        page: int = 100,
        rng: random.Random | None = None,
        throttle: Chance = 0.0,
        unanswered: Chance = 0.0,
        validate: bool = True,
    ) -> None:
        super().__init__(clock, rng=rng, throttle=throttle, unanswered=unanswered, validate=validate)
        self.account = Account(clock, fate=fate, durations=durations, limit=limit)
        self.lag = lag
        self.page = page
        self._answers: dict[str, tuple[str, Answer]] = {}

    @operation
    def create_stack(self, **params: Any) -> Answer:
        """Begin a creation."""
        known = self._known_answer("create_stack", params)
        if known is not None:
            return known
        name = params["StackName"]
        refusal = name_refused(name)
        if refusal:
            raise self._refusal("create_stack", refusal)
        if self.account.find(name) is not None:
            raise self.error("AlreadyExistsException", f"Stack [{name}] already exists", "create_stack")
        if self.account.is_full():
            raise self.error(
                "LimitExceededException",
                "The quota for the resource has already been reached.",
                "create_stack",
            )
        return self._remember("create_stack", params, {"StackId": self._create(name, params).stack_id})

    @operation
    def describe_stacks(self, **params: Any) -> Answer:
        """Return one stack, or a page of those that aren't deleted."""
        moment = self._moment()
        name = params.get("StackName")
        if name:
            seen = self.account.seen(name, moment)
            if seen is None:
                raise self._refusal("describe_stacks", f"Stack with id {name} does not exist")
            return {"Stacks": [seen[0].described(seen[1])]}
        stacks, more = self._page_of(self.account.newest_first(moment, _number(params)))
        return {"Stacks": [stack.described(snapshot) for stack, snapshot in stacks], **more}

    @operation
    def list_stacks(self, **params: Any) -> Answer:
        """Return a page of all stacks, including deleted ones."""
        wanted = params.get("StackStatusFilter")
        found = self.account.newest_first(self._moment(), _number(params), with_deleted=True)
        stacks, more = self._page_of(pair for pair in found if not wanted or pair[1].status in wanted)
        return {"StackSummaries": [stack_summary(*pair) for pair in stacks], **more}

    @operation
    def describe_stack_events(self, **params: Any) -> Answer:
        """Return a page of a stack's events, the newest first."""
        moment = self._moment()
        stack = self._seen("describe_stack_events", params, moment)
        events = [event for event in stack.events if event.step.at <= moment]
        end = _number(params, len(events))
        start = max(end - self.page, 0)
        more = {"NextToken": str(start)} if start else {}
        return {
            "StackEvents": [described_event(stack, event) for event in reversed(events[start:end])],
            **more,
        }

    @operation
    def describe_stack_resources(self, **params: Any) -> Answer:
        """Return the resources of a stack that have changed at least once."""
        stack = self._seen("describe_stack_resources", params, self._moment())
        of_stack = {"StackName": stack.name, "StackId": stack.stack_id}
        return {"StackResources": [of_stack | described_resource(r, "Timestamp") for r in stack.begun()]}

    @operation
    def list_stack_resources(self, **params: Any) -> Answer:
        """Return the resources of a stack that have changed at least once."""
        stack = self._seen("list_stack_resources", params, self._moment())
        return {
            "StackResourceSummaries": [described_resource(r, "LastUpdatedTimestamp") for r in stack.begun()]
        }

    @operation
    def delete_stack(self, **params: Any) -> Answer:
        """Begin a deletion; a missing stack is no error."""
        known = self._known_answer("delete_stack", params)
        stack = self.account.find(params["StackName"])
        if known is not None or stack is None or not stack.exists:
            return {}
        retain = params.get("RetainResources", [])
        force = params.get("DeletionMode") == "FORCE_DELETE_STACK"
        refusal = deletion_refused(stack, retain, force=force)
        if refusal:
            raise self._refusal("delete_stack", refusal)
        if stack.status != "DELETE_IN_PROGRESS":
            now = self.clock()
            steps = cfn_plans.deletion(stack, now, self.account.durations, retain, force=force)
            stack.begin(list(steps), params.get("ClientRequestToken", ""), now)
        return self._remember("delete_stack", params, {})

    @operation
    def cancel_update_stack(self, **params: Any) -> Answer:
        """Roll back an update that is in progress."""
        return self._roll_back("cancel_update_stack", "CancelUpdateStack", {"UPDATE_IN_PROGRESS"}, params, {})

    @operation
    def rollback_stack(self, **params: Any) -> Answer:
        """Roll back a failed creation or update that was not rolled back."""
        stack = self.account.find(params["StackName"])
        answer = {} if stack is None else {"StackId": stack.stack_id}
        return self._roll_back(
            "rollback_stack", "RollbackStack", {"CREATE_FAILED", "UPDATE_FAILED"}, params, answer
        )

    @operation
    def continue_update_rollback(self, **params: Any) -> Answer:
        """Retry the rollback of an update, without some resources."""
        return self._roll_back(
            "continue_update_rollback", "ContinueUpdateRollback", {"UPDATE_ROLLBACK_FAILED"}, params, {}
        )

    @operation
    def update_termination_protection(self, **params: Any) -> Answer:
        """Switch termination protection on or off."""
        stack = self._found("update_termination_protection", params)
        stack.protect(params["EnableTerminationProtection"], self.clock())
        return {"StackId": stack.stack_id}

    def serves(self, address: str, node_id: str) -> bool:
        """Return whether the node at this address answers, which no API of AWS shows."""
        stack = self.account.by_address.get(address)
        if stack is None or stack.names.get("NodeId") != node_id:
            return False
        now = self.clock()
        stack.reconcile(now)
        return stack.serves(now)

    def _create(self, name: str, params: Answer) -> Stack:
        parameters = {p["ParameterKey"]: p["ParameterValue"] for p in params.get("Parameters", ())}
        now, durations = self.clock(), self.account.durations
        on_failure = "DO_NOTHING" if params.get("DisableRollback") else params.get("OnFailure", "ROLLBACK")
        try:
            template = parse(params.get("TemplateBody", ""))
            return self.account.add(
                name,
                lambda stack: cfn_plans.creation(stack, now, durations),
                template=template,
                parameters=template.parameter_values(parameters),
                tags={tag["Key"]: tag["Value"] for tag in params.get("Tags", ())},
                token=params.get("ClientRequestToken", ""),
                on_failure=on_failure,
                protected=params.get("EnableTerminationProtection"),
                **{key: params[key] for key in ("Capabilities", "RoleARN") if key in params},
            )
        except TemplateError as error:
            raise self._refusal("create_stack", str(error)) from error

    def _roll_back(
        self, operation: str, called: str, allowed: set[str], params: Answer, answer: Answer
    ) -> Answer:
        known = self._known_answer(operation, params)
        if known is not None:
            return known
        stack = self._found(operation, params)
        if stack.status not in allowed:
            raise self._refusal(operation, f"{called} cannot be called from current stack status")
        skip = params.get("ResourcesToSkip", ())
        if any(id_ not in stack.resources or stack.resources[id_].status != "UPDATE_FAILED" for id_ in skip):
            raise self._refusal(operation, "Only resources in UPDATE_FAILED state can be skipped")
        now, durations = self.clock(), self.account.durations
        if stack.status == "CREATE_FAILED":
            begin = Step(now, "ROLLBACK_IN_PROGRESS", reason=cfn_plans.BY_USER)
            steps = [begin, *cfn_plans.rollback(stack, stack.made(), now, durations)]
        else:
            fails = stack.failing_rollbacks > 0 and not skip
            steps = list(cfn_plans.update_rollback(stack, now, durations, cfn_plans.BY_USER, fails=fails))
        stack.begin(steps, params.get("ClientRequestToken", ""), now)
        return self._remember(operation, params, answer)

    def _known_answer(self, operation: str, params: Answer) -> Answer | None:
        """Return the previous response to this request; None if its token is new or missing."""
        token = params.get("ClientRequestToken")
        known = self._answers.get(token) if token else None
        if known is None:
            return None
        if known[0] != _request(operation, params):
            raise self.error(
                "TokenAlreadyExistsException", "A client request token already exists.", operation
            )
        return dict(known[1])

    def _remember(self, operation: str, params: Answer, answer: Answer) -> Answer:
        if "ClientRequestToken" in params:
            self._answers[params["ClientRequestToken"]] = (_request(operation, params), dict(answer))
        return answer

    def _found(self, operation: str, params: Answer) -> Stack:
        stack = self.account.find(params["StackName"])
        if stack is None or not stack.exists:
            raise self._refusal(operation, f"Stack [{params['StackName']}] does not exist")
        return stack

    def _seen(self, operation: str, params: Answer, moment: float) -> Stack:
        seen = self.account.seen(params["StackName"], moment)
        if seen is None:
            raise self._refusal(operation, f"Stack [{params['StackName']}] does not exist")
        return seen[0]

    def _refusal(self, operation: str, message: str) -> ClientError:
        return self.error("ValidationError", message, operation)

    def _moment(self) -> float:
        if callable(self.lag):
            return self.clock() - self.lag()
        return self.clock() - self.rng.uniform(0, self.lag) if self.lag else self.clock()

    def _page_of(self, stacks: Iterable[Sight]) -> tuple[list[Sight], Answer]:
        """Return a page, and a token if there are more stacks."""
        page = list(islice(stacks, self.page + 1))
        if len(page) <= self.page:
            return page, {}
        return page[:-1], {"NextToken": str(page[-2][0].number)}


def _request(operation: str, params: Answer) -> str:
    return f"{operation} {sorted(params.items())}"


def _number(params: Answer, default: Any = None) -> Any:
    return int(params["NextToken"]) if "NextToken" in params else default
