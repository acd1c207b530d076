//! Runs what a team wrote, and turns what it wants into rows and messages, or its failure into quarantine.
//!
//! A handler sees the entity's rows and answers with data; nothing is kept unless all of it can be: rows that
//! were loaded, messages that fit. A panic is a failure of the entity, never of the worker.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    batch::Outcome,
    effect::{Effect, Effects, Objection},
    emit::{Draft, Origin},
    event::{Arrival, Body, Event, Reason},
    kind::FailurePolicy,
    lane::Lane,
    ledger::Journal,
    rows::{Micros, Rows},
    saga::{Action, Definition, Instance, Reaction, Signal, ignored},
    state::Address,
    table::Value,
};

/// Whether an event comes in its turn, or after its number or id was taken already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The marks move with it.
    InOrder,
    /// It waited, or it is a dead letter replayed: the marks have moved before.
    Outside,
}

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    /// An event for the kind's handler, or a reply for the saga.
    Event(&'a Event),
    /// A timer that the entity has set, by its name.
    Timer(&'a str),
    /// The timer of the entity's saga.
    SagaDue,
    /// An operator lets the entity try again.
    Retry,
    /// An operator lets the entity's saga ask again.
    SagaRetry,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Verdict {
    Applied,
    Refused(String),
    NotYet,
}

impl Verdict {
    fn of(decided: Result<(), Objection>) -> Result<Self, Failure> {
        match decided {
            Ok(()) => Ok(Self::Applied),
            Err(Objection::Refused(reason)) => Ok(Self::Refused(reason)),
            Err(Objection::NotYet) => Ok(Self::NotYet),
            Err(Objection::Contradiction(error)) => Err(Failure::Contradiction(error)),
        }
    }
}

/// All that a run wants, checked: it can be kept whole.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) verdict: Verdict,
    pub(super) changes: BTreeMap<Address, Option<Vec<Value>>>,
    pub(super) effects: Vec<Effect>,
    pub(super) correlation: Option<String>,
    pub(super) drafts: Vec<Draft>,
    pub(super) saga: Option<(Option<Instance>, Instance)>,
    pub(super) wakes: Vec<i64>,
    pub(super) alarms: Vec<String>,
    pub(super) note: Option<String>,
}

/// Why a run is not kept.
#[derive(Debug)]
pub(super) enum Failure {
    /// A fact contradicts what is known.
    Contradiction(String),
    /// The handler fails.
    Poison(String),
}

impl Failure {
    /// The word of `quarantine.cause`.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Contradiction(_) => "contradiction",
            Self::Poison(_) => "failure",
        }
    }

    /// What went wrong; no payload.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Contradiction(text) | Self::Poison(text) => text,
        }
    }
}

/// What a run gathers of its saga.
#[derive(Default)]
struct Moves {
    instance: Option<Instance>,
    /// There was a saga; it is over and was forgotten.
    forgotten: bool,
    actions: Vec<Action>,
    note: Option<String>,
}

impl Lane {
    /// Handles an event whose turn it is.
    pub(super) fn handle(&mut self, arrival: &Arrival, event: &Event, way: Way) {
        let run = match &arrival.condemned {
            Some(error) => Err(Failure::Poison(error.clone())),
            None => self.run(&event.entity_id, Cause::Event(event)),
        };
        let run = match run {
            Ok(run) => run,
            Err(failure) => return self.fail(arrival, event, failure, way),
        };
        let outcome = match &run.verdict {
            Verdict::NotYet => return self.wait(arrival, event, way),
            Verdict::Applied => Outcome::Applied,
            Verdict::Refused(_) => Outcome::Refused,
        };
        let note = if let Verdict::Refused(reason) = &run.verdict { Some(reason.clone()) } else { run.note.clone() };
        let note = if way == Way::Outside { Some(outside(note)) } else { note };
        let begins = self.begins_something(&event.entity_id, &run);
        self.apply(&event.entity_id, run, Origin::of_event(self, arrival, event));
        let head = self.batch.heads.get_mut(&event.entity_id).expect("the head is loaded before its event is handled");
        let version = (outcome == Outcome::Applied).then(|| {
            head.version += 1;
            head.changed = true;
            head.version
        });
        self.journal(arrival, event, outcome, version, note);
        if way == Way::InOrder {
            self.mark_taken(event, arrival.link.is_some());
        }
        self.count(outcome);
        if begins {
            self.wake_waiting(&event.entity_id);
        }
    }

    fn fail(&mut self, arrival: &Arrival, event: &Event, failure: Failure, way: Way) {
        let dead_letters = self.kind().on_failure() == FailurePolicy::DeadLetter;
        if dead_letters && matches!(failure, Failure::Poison(_)) {
            self.dead_letter_event(arrival, event, Reason::Poison, failure.text());
            if way == Way::InOrder {
                self.mark_taken(event, arrival.link.is_some());
                self.remember_passed(event);
            }
            return;
        }
        self.quarantine_at(arrival, event, &failure, way);
    }

    /// Runs the team's code on the entity's rows.
    pub(super) fn run(&self, entity_id: &str, cause: Cause<'_>) -> Result<Run, Failure> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_unguarded(entity_id, cause)));
        outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Failure::Poison(format!("handler panicked: {}", text.unwrap_or_default())))
        })
    }

    fn run_unguarded(&self, entity_id: &str, cause: Cause<'_>) -> Result<Run, Failure> {
        let before = self.saga_of(entity_id);
        let mut rows = Rows::new(&self.state, entity_id, before.as_ref());
        let asker = if let Cause::Event(event) = cause { event.saga.as_ref().map(|saga| saga.to_text()) } else { None };
        let mut effects = Effects::asked_by(asker);
        let forgotten = self.batch.heads[entity_id].marks.had_saga();
        let mut moves = Moves { instance: before.clone(), forgotten, ..Moves::default() };
        let verdict = match cause {
            Cause::Event(event) => match &event.body {
                Body::Entity(parsed) => Verdict::of(self.kind().decide(&mut rows, parsed, &mut effects))?,
                Body::Reply(reason) => self.run_reply(event, reason.as_deref(), &mut moves)?,
            },
            Cause::Timer(name) => {
                self.kind().timer(&mut rows, name, &mut effects);
                Verdict::Applied
            }
            Cause::SagaDue => {
                self.advance(&mut moves, &Signal::Due)?;
                Verdict::Applied
            }
            Cause::Retry => Verdict::of(self.kind().retry(&mut rows, &mut effects))?,
            Cause::SagaRetry => {
                self.advance(&mut moves, &Signal::Retry)?;
                Verdict::Applied
            }
        };
        if matches!(verdict, Verdict::Refused(_)) {
            rows.changes.clear();
        }
        let drafts = self.settle_saga(entity_id, &mut rows, &mut effects, &mut moves)?;
        let mut run = self.gather(verdict, rows.changes, effects, drafts, &before, moves);
        self.check(entity_id, &mut run, matches!(cause, Cause::Event(_)))?;
        Ok(run)
    }

    fn run_reply(&self, event: &Event, reason: Option<&str>, moves: &mut Moves) -> Result<Verdict, Failure> {
        let Some(reference) = &event.saga else {
            return Err(Failure::Poison("reply carries no saga reference".to_owned()));
        };
        if moves.instance.is_none() && !moves.forgotten {
            return Ok(Verdict::NotYet);
        }
        self.advance(moves, &Signal::Reply { reference, message_type: &event.event_type, reason })?;
        Ok(Verdict::Applied)
    }

    fn advance(&self, moves: &mut Moves, signal: &Signal<'_>) -> Result<(), Failure> {
        let Some(instance) = moves.instance.as_mut() else {
            // One that was forgotten was over: whatever comes meets what it would have met then.
            moves.note = moves.forgotten.then(|| ignored::OVER.to_owned());
            return Ok(());
        };
        let definition = self.definition_of(instance)?;
        let (reaction, actions) = definition.advance(instance, signal, self.now);
        if let Reaction::Ignored(why) = reaction {
            moves.note = Some(why.to_owned());
        }
        moves.actions.extend(actions);
        Ok(())
    }

    fn definition_of(&self, instance: &Instance) -> Result<Arc<Definition>, Failure> {
        let (name, version) = (self.saga_name.unwrap_or_default(), instance.definition_version());
        let known = self.catalog.definition(name, Some(version)).cloned();
        known.ok_or_else(|| Failure::Poison(format!("saga {name} version {version} is not known to this release")))
    }

    /// Begins and cancels sagas as asked, tells the entity of an ending, and drafts every message in order.
    fn settle_saga(
        &self,
        entity_id: &str,
        rows: &mut Rows<'_>,
        effects: &mut Effects,
        moves: &mut Moves,
    ) -> Result<Vec<Draft>, Failure> {
        let mut drafts = Vec::new();
        let (mut effect_at, mut action_at) = (0, 0);
        loop {
            if let Some(action) = moves.actions.get(action_at) {
                match action {
                    Action::Ended(ending) => {
                        let instance = moves.instance.as_ref().expect("only a saga ends");
                        (self.definition_of(instance)?.ended)(rows, ending, effects);
                    }
                    Action::Send { .. } => drafts.push(self.draft_command(action)?),
                    Action::WakeAt(_) | Action::Alarm(_) => {}
                }
                action_at += 1;
            } else if let Some(effect) = effects.list.get_mut(effect_at) {
                match effect {
                    Effect::BeginSaga { definition } => self.begin_saga(definition, entity_id, rows, moves)?,
                    Effect::CancelSaga { reason, .. } => self.advance(moves, &Signal::Cancel { reason })?,
                    Effect::Send { .. } | Effect::Reply { .. } => drafts.push(self.draft(effect)?),
                    Effect::Wake { .. } | Effect::Owe { .. } | Effect::Settle { .. } | Effect::NeedsOperator { .. } => {
                    }
                }
                effect_at += 1;
            } else {
                return Ok(drafts);
            }
        }
    }

    fn begin_saga(&self, name: &str, entity_id: &str, rows: &Rows<'_>, moves: &mut Moves) -> Result<(), Failure> {
        if self.saga_name != Some(name) || moves.instance.is_some() || moves.forgotten {
            return Err(Failure::Poison(format!("saga {name} cannot begin here, or has begun before")));
        }
        let definition = self.catalog.definition(name, None).expect("the lane knows its saga by the catalog");
        let (instance, actions) = definition.begin(entity_id, rows, self.now);
        moves.instance = Some(instance);
        moves.actions.extend(actions);
        Ok(())
    }

    fn gather(
        &self,
        verdict: Verdict,
        changes: BTreeMap<Address, Option<Vec<Value>>>,
        effects: Effects,
        drafts: Vec<Draft>,
        before: &Option<Instance>,
        moves: Moves,
    ) -> Run {
        let wakes =
            moves.actions.iter().filter_map(|action| if let Action::WakeAt(at) = action { Some(*at) } else { None });
        let alarms = moves
            .actions
            .iter()
            .filter_map(|action| if let Action::Alarm(text) = action { Some(text.clone()) } else { None });
        Run {
            verdict,
            changes,
            wakes: wakes.collect(),
            alarms: alarms.collect(),
            correlation: effects.correlation,
            effects: effects.list,
            drafts,
            saga: moves.instance.filter(|after| before.as_ref() != Some(after)).map(|after| (before.clone(), after)),
            note: moves.note,
        }
    }

    /// What is kept must be whole: rows of this entity that were loaded, and its main row among them.
    fn check(&self, entity_id: &str, run: &mut Run, is_event: bool) -> Result<(), Failure> {
        let id = Value::text(entity_id);
        for (address, row) in &run.changes {
            let table = address.table;
            if address.key.first() != Some(&id) || self.state.get(address).is_none() {
                let error = format!("handler wrote a row of {} that was not loaded: name it in `rows`", table.name);
                return Err(Failure::Poison(error));
            }
            if row.is_none() && table.version.is_some() {
                return Err(Failure::Poison(format!("handler deleted the main row of {}", table.name)));
            }
        }
        let main = self.kind().main();
        let exists = || {
            run.changes.keys().any(|address| std::ptr::eq(address.table, main))
                || matches!(self.state.get(&Address::new(main, vec![id])), Some(Some(_)))
        };
        if is_event && matches!(run.verdict, Verdict::Applied) && !exists() {
            return Err(Failure::Poison("handler applied an event and left no main row".to_owned()));
        }
        Ok(())
    }

    /// Whether the run brings into being what events may wait for: the entity's row or its saga.
    fn begins_something(&self, entity_id: &str, run: &Run) -> bool {
        let head = &self.batch.heads[entity_id];
        let begins_saga = matches!(&run.saga, Some((None, _)));
        matches!(run.verdict, Verdict::Applied) && (!head.exists || begins_saga)
    }

    pub(super) fn saga_of(&self, entity_id: &str) -> Option<Instance> {
        let row = self.state.get(&self.saga_address(entity_id)?).flatten()?;
        let saga = super::ledger::Saga::read(row)?;
        Some(serde_json::from_str(&saga.state.0).expect("a saga's state is read as the runtime wrote it"))
    }

    pub(super) fn journal(
        &mut self,
        arrival: &Arrival,
        event: &Event,
        outcome: Outcome,
        version: Option<i64>,
        note: Option<String>,
    ) {
        if outcome == Outcome::Applied && !self.kind().journaled() {
            return;
        }
        let row = Journal {
            kind: self.kind().name().to_owned(),
            entity_id: event.entity_id.clone(),
            source: event.source.clone(),
            number: event.sequence.unwrap_or(arrival.record.offset),
            batch: self.fence.batch + 1,
            idx: self.batch.journal,
            version,
            outcome: outcome.as_str().to_owned(),
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            sequence: event.sequence,
            topic: self.id.topic.clone(),
            partition: self.id.partition.into(),
            record_offset: arrival.record.offset,
            epoch: self.fence.epoch,
            digest: Some(event.digest.into()),
            note,
            at: Micros(self.now),
        };
        self.batch.journal += 1;
        self.state.append(&super::ledger::JOURNAL, row.into_row());
    }
}

/// The journal says that an event did not come in its turn, before what else there is to say.
fn outside(note: Option<String>) -> String {
    let outside = "outside the order";
    note.map_or_else(|| outside.to_owned(), |note| format!("{outside}: {note}"))
}
