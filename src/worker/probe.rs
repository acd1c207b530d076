//! Partitions that refuse a message: it is tried again and again, each time later, alone and with a producer of
//! its own. The refusal of one topic costs the others one restart, and no more.
//!
//! A failed message stops its producer for good, so that nothing passes it. With one message of a link under way
//! there is nothing that could.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    link::Flight,
    relay::{PURGE_DEADLINE, Relay},
};
use crate::{broker::SendError, core::record::LaneId};

impl Relay {
    /// A new producer for the next probe.
    pub(super) async fn replace_prober(&mut self) {
        if let Some(prober) = self.prober.take() {
            prober.purge(PURGE_DEADLINE).await;
        }
        while let Ok(report) = self.reports.try_recv() {
            self.take_report(report);
        }
        // A report that did not come in time is lost with the client.
        self.flights.retain(|_, flight| !flight.probe);
        self.lanes.values_mut().for_each(|(_, outgoing)| outgoing.end_probes());
        self.prober_broken = false;
    }

    /// Sends the first message of a link whose partition refuses, if it is time. Whether it was sent.
    pub(super) fn probe(&mut self, id: &LaneId, to: &LaneId) -> Result<bool, String> {
        if self.prober.is_none() {
            self.prober = Some(self.new_producer()?);
        }
        let due = self.refusing.get(to).is_some_and(|(until, _)| Instant::now() >= *until);
        let Some((opening, outgoing)) = self.lanes.get_mut(id).filter(|_| due && !self.prober_broken) else {
            return Ok(false);
        };
        let upto = outgoing.passage.upto;
        let Some(link) = outgoing.links.get_mut(to).filter(|link| !link.probing && link.bytes_in_flight == 0) else {
            return Ok(false);
        };
        let Some(message) = link.queue.front().filter(|message| message.position <= upto) else { return Ok(false) };
        let Some(prober) = &self.prober else { return Ok(false) };
        match prober.send(message, self.next_tag) {
            Ok(()) => {}
            Err(SendError::Full | SendError::Opening) => return Ok(false),
            Err(SendError::Fatal(_)) => {
                self.prober_broken = true;
                return Ok(true);
            }
            Err(SendError::Refused(error)) => {
                tracing::error!(to = %to, error = %error, "a message cannot be sent; its link waits");
                self.refuse(to.clone());
                return Ok(false);
            }
        }
        let (position, bytes) = (message.position, message.bytes());
        link.probing = true;
        link.bytes_in_flight += bytes;
        let flight =
            Flight { route: Arc::new((id.clone(), to.clone())), position, bytes, opening: *opening, probe: true };
        self.flights.insert(self.next_tag, flight);
        self.next_tag += 1;
        self.shared.metrics.relay_sent(&to.topic, 1);
        Ok(true)
    }

    /// Lets a partition be for a while.
    pub(super) fn refuse(&mut self, to: LaneId) {
        let settings = &self.shared.settings;
        let pause = self.refusing.get(&to).map_or(settings.relay_retry_min, |(_, pause)| pause.saturating_mul(2));
        let pause = pause.min(settings.relay_retry_max);
        self.refusing.insert(to, (Instant::now() + pause, pause));
    }
}
