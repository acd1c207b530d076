//! Hands to the producer what may be sent: per destination in order, within the bound on what is under way. Links
//! whose partitions refuse go by `probe`.

use std::sync::Arc;

use super::{link::Flight, relay::Relay};
use crate::broker::SendError;

impl Relay {
    /// Sends what may be sent. Whether anything was; an error: this producer sends no more.
    pub(super) fn send_all(&mut self) -> Result<bool, String> {
        let Some(producer) = &self.producer else { return Ok(false) };
        let link_bytes_max = self.shared.settings.link_bytes_max;
        let mut sent = false;
        let (mut refused, mut probes) = (Vec::new(), Vec::new());
        for (id, (opening, outgoing)) in &mut self.lanes {
            let upto = outgoing.passage.upto;
            for (to, link) in &mut outgoing.links {
                if self.refusing.contains_key(to) || link.probing {
                    probes.push((id.clone(), to.clone()));
                    continue;
                }
                let mut route = None;
                while let Some(message) = link.queue.front().filter(|message| message.position <= upto) {
                    let bytes = message.bytes();
                    if link.bytes_in_flight > 0 && link.bytes_in_flight + bytes > link_bytes_max {
                        break;
                    }
                    match producer.send(message, self.next_tag) {
                        Ok(()) => {}
                        Err(SendError::Opening) => break,
                        Err(SendError::Full) => {
                            refused.into_iter().for_each(|to| self.refuse(to));
                            return Ok(sent);
                        }
                        Err(SendError::Fatal(error)) => return Err(error),
                        Err(SendError::Refused(error)) => {
                            tracing::error!(to = %to, error = %error, "a message cannot be sent; its link waits");
                            refused.push(to.clone());
                            break;
                        }
                    }
                    let position = message.position;
                    let route = route.get_or_insert_with(|| Arc::new((id.clone(), to.clone())));
                    let flight = Flight { route: Arc::clone(route), position, bytes, opening: *opening, probe: false };
                    self.flights.insert(self.next_tag, flight);
                    self.next_tag += 1;
                    link.bytes_in_flight += bytes;
                    outgoing.queued_bytes = outgoing.queued_bytes.saturating_sub(bytes);
                    link.queue.pop_front();
                    self.shared.metrics.relay_sent(&to.topic, 1);
                    sent = true;
                }
            }
        }
        refused.into_iter().for_each(|to| self.refuse(to));
        for (id, to) in probes {
            sent |= self.probe(&id, &to)?;
        }
        Ok(sent)
    }
}
