//! Operators' changes go through the lane: a row of `command` is an input like any other, so there is
//! never a second writer. What became of it stands in `command_log`.

use serde_json::Value as Json;

use super::{
    batch::Outcome,
    decode,
    emit::Origin,
    event::{Event, Reason, Rejection},
    handle::{Cause, Verdict, Way},
    lane::Lane,
    ledger::{COMMAND_LOG, Command, CommandLog, DeadLetter, Parked},
    letter::REPLAYABLE,
    quarantine::{GAP, TIMER, record_of},
    record::Record,
    rows::Micros,
    sabotage::{Safeguard, lacks},
    state::Address,
    table::{Row, Value},
};

/// What an operator can order; the words of `command.action`.
pub mod action {
    /// Lets a quarantined entity drain.
    pub const ENTITY_RELEASE: &str = "entity.release";
    /// Passes over the failing event or the gap, then drains.
    pub const ENTITY_SKIP: &str = "entity.skip";
    /// Dead-letters all records that are parked; timers drain.
    pub const ENTITY_DISCARD: &str = "entity.discard";
    /// Lets an entity try again what it is out of attempts for.
    pub const ENTITY_RETRY: &str = "entity.retry";
    /// Lets a saga ask again what was not answered in time.
    pub const SAGA_RETRY: &str = "saga.retry";
    /// Takes a dead letter up again, outside the order. Argument: `offset`.
    pub const LETTER_REPLAY: &str = "letter.replay";
    /// Closes a dead letter. Argument: `offset`.
    pub const LETTER_DISCARD: &str = "letter.discard";
    /// Accepts that the topic was made anew: reading starts at its beginning.
    pub const LANE_ACCEPT: &str = "lane.accept";
    /// Accepts that the sender of a link has gone on differently. Arguments: `link`, `number`.
    pub const LINK_ACCEPT: &str = "link.accept";
}

/// The argument of an order that was carried out in part: it is not refused any more, whatever comes between.
const BEGUN: &str = r#"{"begun":true}"#;

/// How an order went.
enum Answer {
    Done(String),
    Refused(String),
    /// Not all of it fitted into one batch: the order stays.
    Unfinished,
}

impl Lane {
    /// Takes a row of `command`. `condemned`: the database refuses what it would write.
    pub(super) fn obey(&mut self, row: &Row, condemned: Option<&str>) {
        let command = Command::read(row).expect("an order is read as the runtime wrote it");
        let address = command.address();
        if self.state.get(&address).is_none() {
            self.state.admit(address.clone(), Some(row.clone()));
        }
        let log_key = vec![Value::text(&command.topic), Value::Int(command.partition), Value::text(&command.id)];
        let logged = Address::new(&COMMAND_LOG, log_key);
        if !self.state.has(&logged) {
            return;
        }
        if matches!(self.state.get(&logged), Some(Some(_))) && !lacks(Safeguard::OrderOnce) {
            // Sent again for want of an answer, and obeyed in between.
            return self.state.set(address, None);
        }
        let answer = match condemned {
            Some(error) => Answer::Refused(format!("the database refuses it: {error}")),
            None => self.carry_out(&command),
        };
        let (done, result) = match answer {
            Answer::Done(result) => (1, result),
            Answer::Refused(result) => (0, result),
            Answer::Unfinished => return,
        };
        self.state.set(address, None);
        let log = CommandLog {
            topic: command.topic,
            partition: command.partition,
            id: command.id,
            action: command.action,
            kind: command.kind,
            entity_id: command.entity_id,
            argument: command.argument,
            actor: command.actor,
            reason: command.reason,
            ordered_at: command.ordered_at,
            done_at: Micros(self.now),
            done,
            result,
        };
        self.state.set(logged, Some(log.into_row()));
    }

    fn carry_out(&mut self, command: &Command) -> Answer {
        let reason = command.reason.as_deref().unwrap_or("no reason given");
        let argument: Json = serde_json::from_str(&command.argument).unwrap_or(Json::Null);
        let offset = argument.get("offset").and_then(Json::as_i64);
        match (command.action.as_str(), command.entity_id.as_deref(), offset) {
            (action::ENTITY_RELEASE, Some(entity_id), _) => self.order_release(entity_id),
            (action::ENTITY_SKIP, Some(entity_id), _) => self.order_skip(entity_id, reason),
            (action::ENTITY_DISCARD, Some(entity_id), _) => self.order_discard(command, entity_id, reason),
            (action::ENTITY_RETRY, Some(entity_id), _) => self.order_retry(command, entity_id),
            (action::SAGA_RETRY, Some(saga_id), _) => self.order_saga_retry(command, saga_id),
            (action::LETTER_REPLAY, _, Some(offset)) => self.order_replay(offset),
            (action::LETTER_DISCARD, _, Some(offset)) => self.order_letter_discard(offset),
            (action::LANE_ACCEPT, ..) => {
                self.batch.next_offset = 0;
                self.batch.incarnation += 1;
                self.batch.reset = true;
                Answer::Done("the topic is read from its beginning".to_owned())
            }
            (action::LINK_ACCEPT, ..) => self.order_link_accept(&argument),
            _ => Answer::Refused("the order is not known or lacks its argument".to_owned()),
        }
    }

    /// Only the fork that the lane stands before is accepted: the operator has seen its alarm.
    fn order_link_accept(&mut self, argument: &Json) -> Answer {
        let link = argument.get("link").and_then(Json::as_str).unwrap_or_default();
        let number = argument.get("number").and_then(Json::as_i64).unwrap_or_default();
        let fork = self.fork.clone().filter(|fork| fork.link == link && fork.number == number);
        match fork.and_then(|fork| self.link_of_fork(&fork)) {
            Some(known) => {
                self.accept_fork(number, known);
                self.batch.accepted = true;
                Answer::Done(format!("link {link} is taken from message {number} on as it comes now"))
            }
            None => {
                Answer::Refused(format!("the lane does not stand before a fork at message {number} of link {link}"))
            }
        }
    }

    fn order_release(&mut self, entity_id: &str) -> Answer {
        if !self.is_unwell(entity_id) {
            return Answer::Refused("the entity is not quarantined".to_owned());
        }
        self.begin_drain(entity_id);
        Answer::Done("the entity drains".to_owned())
    }

    fn order_skip(&mut self, entity_id: &str, reason: &str) -> Answer {
        let Some(quarantine) = self.read_quarantine(entity_id) else {
            return Answer::Refused("the entity is not quarantined".to_owned());
        };
        if quarantine.status == "draining" {
            // Released before: nothing has failed since, and what is first in the queue is innocent.
            return Answer::Refused("the entity drains".to_owned());
        }
        let is_gap = quarantine.cause == GAP;
        let count = if is_gap { self.limits.drain_max } else { 1 };
        let Some(page) = self.parked_page(entity_id, count) else { return Answer::Unfinished };
        let Some(parked) = page.first().cloned() else {
            if quarantine.first < quarantine.next {
                // Parked by this very batch: it is skipped in the next one.
                return Answer::Unfinished;
            }
            self.begin_drain(entity_id);
            return Answer::Done("nothing was parked".to_owned());
        };
        if !self.prepare(entity_id) {
            return Answer::Unfinished;
        }
        let done =
            if is_gap { self.skip_gap(entity_id, &parked, &page) } else { self.skip_parked(entity_id, parked, reason) };
        self.begin_drain(entity_id);
        Answer::Done(done)
    }

    /// Gives up what is missing before the first of the source's records that have come, which may have come later than
    /// the one that waited for it.
    fn skip_gap(&mut self, entity_id: &str, waited: &Parked, page: &[Parked]) -> String {
        let Some(source) = &waited.source else { return "the first parked record has no source".to_owned() };
        let head = self.batch.heads.get_mut(entity_id).expect("prepared by the caller");
        let first = head.marks.taken(source) + 1;
        let of_source = page.iter().filter(|parked| parked.source.as_ref() == Some(source));
        let come = of_source.filter_map(|parked| parked.sequence).filter(|sequence| *sequence >= first).min();
        let Some(last) = come.map(|sequence| sequence - 1).filter(|last| *last >= first) else {
            return format!("nothing is given up: no gap of {source} stands before what is parked");
        };
        head.marks.give_up(source, last);
        head.changed = true;
        self.release(entity_id, source);
        format!("sequences {first} to {last} of {source} are given up")
    }

    fn skip_parked(&mut self, entity_id: &str, parked: Parked, reason: &str) -> String {
        let address = parked.address();
        if parked.what == TIMER {
            self.unpark(entity_id, address);
            return "the timer is skipped".to_owned();
        }
        let arrival = decode::open(&self.catalog, &self.id, record_of(parked));
        self.unpark(entity_id, address);
        match &arrival.decoded {
            Ok(event) => {
                self.journal(&arrival, event, Outcome::Skipped, None, Some(reason.to_owned()));
                self.take_marks_of(event, arrival.link.is_some());
                self.count(Outcome::Skipped);
            }
            Err(rejection) => self.reject(&arrival, rejection),
        }
        format!("offset {} is skipped", arrival.record.offset)
    }

    /// Moves the marks past an event that is not handled, unless they have moved already.
    fn take_marks_of(&mut self, event: &Event, linked: bool) {
        let taken = self.batch.heads[&event.entity_id].marks.taken(&event.source);
        match event.sequence {
            Some(number) if number == taken + 1 => {
                self.mark_taken(event, linked);
                self.release(&event.entity_id, &event.source);
            }
            Some(number) if number > taken => self.pass(&event.entity_id, &event.source, number, Some(event)),
            Some(_) => {}
            None => {
                if self.prepare_ids(event, linked) {
                    self.mark_taken(event, linked);
                }
            }
        }
    }

    fn order_discard(&mut self, command: &Command, entity_id: &str, reason: &str) -> Answer {
        let Some(quarantine) = self.read_quarantine(entity_id) else {
            if command.argument == BEGUN {
                return Answer::Done("records were dead-lettered until all else had drained".to_owned());
            }
            return Answer::Refused("the entity is not quarantined".to_owned());
        };
        if !self.prepare(entity_id) {
            return Answer::Unfinished;
        }
        let Some(page) = self.parked_page(entity_id, self.limits.drain_max) else { return Answer::Unfinished };
        let whole = i64::try_from(page.len()).unwrap_or(i64::MAX) >= quarantine.next - quarantine.first;
        if page.is_empty() && !whole {
            // Parked by this very batch.
            return Answer::Unfinished;
        }
        let has_records = page.iter().any(|parked| parked.what != TIMER);
        for parked in page {
            self.unpark(entity_id, parked.address());
            if parked.what == TIMER {
                // It has no letter and nobody sets it again, so it is not given up: it goes behind and drains.
                self.park(parked);
                continue;
            }
            let arrival = decode::open(&self.catalog, &self.id, record_of(parked));
            match &arrival.decoded {
                Ok(event) => {
                    self.dead_letter(&arrival.record, &Rejection::of(event, Reason::Operator, reason));
                    let taken = self.batch.heads[entity_id].marks.taken(&event.source);
                    if event.sequence.is_some_and(|number| number > taken) {
                        self.remember_passed(event);
                    }
                    self.take_marks_of(event, arrival.link.is_some());
                }
                Err(rejection) => self.reject(&arrival, rejection),
            }
        }
        if has_records && !whole {
            let begun = Command { argument: BEGUN.to_owned(), ..command.clone() };
            self.state.set(begun.address(), Some(begun.into_row()));
            return Answer::Unfinished;
        }
        self.begin_drain(entity_id);
        Answer::Done("all records that were parked are dead-lettered".to_owned())
    }

    fn order_retry(&mut self, command: &Command, entity_id: &str) -> Answer {
        if !self.prepare(entity_id) {
            return Answer::Unfinished;
        }
        if !self.batch.heads[entity_id].exists {
            return Answer::Refused("there is no such entity".to_owned());
        }
        self.retry(command, entity_id, Cause::Retry)
    }

    fn order_saga_retry(&mut self, command: &Command, saga_id: &str) -> Answer {
        if !self.prepare(saga_id) {
            return Answer::Unfinished;
        }
        match self.saga_of(saga_id) {
            None => Answer::Refused("there is no such saga".to_owned()),
            Some(saga) if saga.is_over() => Answer::Refused(format!("it is {}", saga.status().as_str())),
            Some(_) => self.retry(command, saga_id, Cause::SagaRetry),
        }
    }

    fn retry(&mut self, command: &Command, entity_id: &str, cause: Cause<'_>) -> Answer {
        if self.is_unwell(entity_id) {
            return Answer::Refused("the entity is quarantined: release it first".to_owned());
        }
        let run = match self.run(entity_id, cause) {
            Ok(run) => run,
            Err(failure) => return Answer::Refused(failure.text().to_owned()),
        };
        match run.verdict {
            Verdict::Applied => {}
            Verdict::Refused(reason) => return Answer::Refused(reason),
            Verdict::NotYet => return Answer::Refused("what it is about does not exist yet".to_owned()),
        }
        let done = match &run.note {
            None => "it tries again".to_owned(),
            Some(note) => format!("nothing is asked: {note}"),
        };
        let origin = Origin::of_order(self, entity_id, command);
        self.apply(entity_id, run, origin);
        Answer::Done(done)
    }

    fn order_replay(&mut self, offset: i64) -> Answer {
        let Some(letter) = self.read_letter(offset) else { return self.no_letter(offset) };
        if letter.status != REPLAYABLE {
            return Answer::Refused(format!("the letter is {}", letter.status));
        }
        let arrival = decode::open(&self.catalog, &self.id, record_of_letter(&letter));
        let event = match &arrival.decoded {
            Ok(event) => event,
            Err(rejection) => return Answer::Refused(format!("it still cannot be read: {}", rejection.error)),
        };
        if self.is_unwell(&event.entity_id) {
            return Answer::Refused("its entity is quarantined: release that first".to_owned());
        }
        if !self.prepare_event(&arrival, event) {
            return Answer::Unfinished;
        }
        self.settle_letter(letter, "replayed");
        self.handle(&arrival, event, Way::Outside);
        Answer::Done("it is taken up again, outside the order".to_owned())
    }

    fn order_letter_discard(&mut self, offset: i64) -> Answer {
        let Some(letter) = self.read_letter(offset) else { return self.no_letter(offset) };
        if letter.status != REPLAYABLE {
            return Answer::Refused(format!("the letter is {}", letter.status));
        }
        self.settle_letter(letter, "discarded");
        Answer::Done("the letter is closed".to_owned())
    }

    fn read_letter(&self, offset: i64) -> Option<DeadLetter> {
        let address = self.letter_address(offset);
        if !self.state.has(&address) {
            return None;
        }
        DeadLetter::read(self.state.get(&address).flatten()?)
    }

    fn no_letter(&self, offset: i64) -> Answer {
        if self.state.get(&self.letter_address(offset)).is_none() {
            return Answer::Unfinished;
        }
        Answer::Refused(format!("there is no dead letter of {} offset {offset}", self.id))
    }
}

fn record_of_letter(letter: &DeadLetter) -> Record {
    Record {
        offset: letter.record_offset,
        timestamp_ms: letter.timestamp_ms,
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers: super::header::from_text(&letter.headers),
    }
}
