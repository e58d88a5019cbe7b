"""A mail assistant with a person in the loop, written for Burr.

It asks back when the instructions are unclear, drafts an answer, and takes feedback until the person is content. It halts
wherever a person is needed, may be resumed days later in another process, and forked to try another reply.
"""

from collections.abc import Callable
from typing import Any

import pydantic
from burr.core import Application, ApplicationBuilder, Condition, Result, State, action, expr, when
from burr.core.persistence import BaseStatePersister, InMemoryPersister
from burr.integrations.pydantic import PydanticTypingSystem
from burr.lifecycle import PostApplicationCreateHook, PreRunStepHook
from burr.visibility import TracerFactory, trace

Model = Callable[[str], str]


class Draft(pydantic.BaseModel):
    text: str
    version: int


class Mail(pydantic.BaseModel):
    incoming: str | None = None
    instructions: str | None = None
    questions: list[str] = pydantic.Field(default_factory=list)
    answers: list[str] = pydantic.Field(default_factory=list)
    drafts: list[Draft] = pydantic.Field(default_factory=list)
    feedback: str | None = None
    sent: str | None = None


@action.pydantic(reads=[], writes=["incoming", "instructions"])
def read_mail(state: Mail, mail: str, wishes: str = "be kind") -> Mail:
    state.incoming = mail
    state.instructions = wishes
    return state


@trace()
def needs(text: str) -> list[str]:
    return [f"What about {word}?" for word in text.split() if word.istitle()]


@action.pydantic(reads=["incoming", "questions"], writes=["questions"])
def find_questions(state: Mail, __tracer: TracerFactory) -> Mail:
    with __tracer("look for names") as span:
        found = needs(state.incoming or "")
        span.log_attributes(found=len(found))
    state.questions.extend(found)
    return state


@action.pydantic(reads=["questions", "answers"], writes=["answers"])
def clarify(state: Mail, replies: list[str]) -> Mail:
    if len(replies) != len(state.questions):
        raise ValueError(f"{len(state.questions)} answers are needed")
    state.answers = replies
    return state


def write_drafts(model: Model) -> Any:
    """The drafting action, with the model that it uses."""

    @action.pydantic(reads=["incoming", "instructions", "answers", "drafts", "feedback"], writes=["drafts"])
    def write(state: Mail) -> Mail:
        parts = [state.instructions, state.incoming, *state.answers, state.feedback]
        text = model(" | ".join(part for part in parts if part))
        state.drafts.append(Draft(text=text, version=len(state.drafts) + 1))
        return state

    return write


@action(reads=["drafts"], writes=["feedback"])
def review(state: State, opinion: str) -> tuple[dict, State]:
    content = opinion.lower() in ("", "fine", "send")
    return {"content": content}, state.update(feedback=None if content else opinion)


@action(reads=["drafts"], writes=["sent"])
def send(state: State) -> State:
    return state.update(sent=state["drafts"][-1].text)


class Journal(PreRunStepHook, PostApplicationCreateHook):
    def __init__(self) -> None:
        self.lines: list[Any] = []

    def post_application_create(self, *, app_id: str, parent_pointer: Any, **future_kwargs: Any) -> None:
        parent = parent_pointer.app_id if parent_pointer else None
        self.lines.append(("opened", app_id, parent))

    def pre_run_step(self, *, action: Any, app_id: str, sequence_id: int, inputs: dict, **future_kwargs: Any) -> None:
        given = {key: value for key, value in inputs.items() if not key.startswith("__")}
        self.lines.append((app_id, sequence_id, action.name, given))


has_questions: Condition = expr("len(questions) > 0")


def assistant(model: Model, persister: BaseStatePersister, journal: Journal, app_id: str, **fork: Any) -> Application[Mail]:
    """Opens the mail `app_id`, or goes on with it; `fork` names another mail to branch off from."""
    return (
        ApplicationBuilder()
        .with_actions(
            read_mail,
            find_questions,
            clarify,
            review,
            send,
            write=write_drafts(model),
            show=Result("sent", "drafts"),
        )
        .with_transitions(
            ("read_mail", "find_questions"),
            ("find_questions", "clarify", has_questions),
            ("find_questions", "write", ~has_questions),
            ("clarify", "write"),
            ("write", "review"),
            ("review", "send", when(feedback=None)),
            ("review", "write"),
            ("send", "show"),
        )
        .with_typing(PydanticTypingSystem(Mail))
        .with_identifiers(app_id=app_id, partition_key="mail")
        .initialize_from(
            persister,
            resume_at_next_action=True,
            default_state=Mail().model_dump(),
            default_entrypoint="read_mail",
            **fork,
        )
        .with_state_persister(persister)
        .with_hooks(journal)
        .build()
    )


PEOPLE = ["clarify", "review"]  # where a person is asked


def play(model: Model, path: str) -> dict:
    persister, journal = InMemoryPersister(), Journal()
    told: list[Any] = []

    def note(stopped: tuple[Any, Any, Any], app: Application) -> None:
        action_, result, _ = stopped
        told.append((action_ and action_.name, repr(result), app.sequence_id, app.state.data.model_dump()))

    app = assistant(model, persister, journal, "first")
    note(app.run(halt_before=PEOPLE, inputs={"mail": "Come to Rome with Ada", "wishes": "say yes"}), app)
    note(app.run(halt_before=PEOPLE, inputs={"replies": ["next year", "she is nice", "of course"]}), app)

    later = assistant(model, persister, journal, "first")
    note(later.run(halt_before=PEOPLE, inputs={"opinion": "shorter"}), later)
    before_sending = later.sequence_id
    note(later.run(halt_after=["show"], inputs={"opinion": "fine"}), later)

    other = assistant(
        model,
        persister,
        journal,
        "second",
        fork_from_app_id="first",
        fork_from_partition_key="mail",
        fork_from_sequence_id=before_sending,
    )
    note(other.run(halt_before=PEOPLE, inputs={"opinion": "longer"}), other)
    note(other.run(halt_after=["show"], inputs={"opinion": "send"}), other)

    plain = assistant(model, persister, journal, "third")
    note(plain.run(halt_before=PEOPLE, inputs={"mail": "hello"}), plain)
    return {
        "told": told,
        "journal": journal.lines,
        "saved": sorted(persister.list_app_ids("mail")),
        "parents": [other.parent_pointer.app_id, other.parent_pointer.sequence_id],
        "sent": [later.state["sent"], other.state["sent"], plain.state["sent"]],
    }
