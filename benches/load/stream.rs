//! The stream: which account moves by how much, event after event.

use clap::{Args, ValueEnum};
use rdkafka::message::{Header, OwnedHeaders};
use seriatim::core::partition::partition_of;

/// How events are spread over accounts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shape {
    /// Each account as often as any other.
    Uniform,
    /// The n-th most busy account by the 1.2th power of n less.
    Zipf,
    /// One account alone.
    One,
    /// Four of five events in one partition.
    Lopsided,
}

/// What decides on the stream.
#[derive(Args, Clone)]
pub struct Stream {
    /// How events are spread.
    #[arg(long, value_enum, default_value = "uniform")]
    pub shape: Shape,
    /// How many events.
    #[arg(long)]
    pub events: u64,
    /// How many accounts.
    #[arg(long, default_value_t = 10_000)]
    pub entities: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    pub partitions: i32,
    /// Bytes of an event's value.
    #[arg(long, default_value_t = 300)]
    pub bytes: usize,
    /// Whether events carry `ce_entityseq`.
    #[arg(long)]
    pub sequenced: bool,
    /// Another stream of the same shape.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One movement.
pub struct Movement {
    pub number: u64,
    pub entity: usize,
    pub sequence: i64,
    pub amount_minor: i64,
}

/// Its movements, in order.
pub struct Movements {
    stream: Stream,
    dice: u64,
    number: u64,
    sequences: Vec<i64>,
    /// How much of the whole falls on the accounts up to each, for [`Shape::Zipf`].
    heaped: Vec<f64>,
    /// Accounts of the busy partition, then those of the others, for [`Shape::Lopsided`].
    sides: [Vec<usize>; 2],
}

/// The key of an account.
pub fn name(entity: usize) -> String {
    format!("account-{entity:08}")
}

impl Stream {
    /// Its movements.
    pub fn movements(&self) -> Movements {
        let mut sum = 0.0;
        let weights = (1..=self.entities).map(|rank| {
            sum += (rank as f64).powf(-1.2);
            sum
        });
        let heaped = if matches!(self.shape, Shape::Zipf) { weights.collect() } else { Vec::new() };
        let mut sides = [Vec::new(), Vec::new()];
        if matches!(self.shape, Shape::Lopsided) {
            for entity in 0..self.entities {
                sides[usize::from(partition_of(name(entity).as_bytes(), self.partitions) != 0)].push(entity);
            }
        }
        let sequences = vec![0; self.entities];
        Movements { stream: self.clone(), dice: self.seed, number: 0, sequences, heaped, sides }
    }

    /// The record of a movement: its key, its value, its headers.
    pub fn record(&self, movement: &Movement) -> (String, Vec<u8>, OwnedHeaders) {
        let key = name(movement.entity);
        let mut value =
            format!(r#"{{"account":"{key}","amount_minor":{},"currency":"EUR","reference":""#, movement.amount_minor);
        let padding = self.bytes.saturating_sub(value.len() + 2);
        // Not all the same letter: a message that packs to nothing would flatter every contender.
        value.extend((0..padding as u64).map(|at| char::from(b'a' + ((movement.number >> (at % 24)) % 26) as u8)));
        value.push_str("\"}");
        let id = format!("{:x}-{:x}", self.seed, movement.number);
        let sequence = movement.sequence.to_string();
        let text = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new_with_capacity(5)
            .insert(text("ce_specversion", "1.0"))
            .insert(text("ce_id", id.as_str()))
            .insert(text("ce_source", "/bench"))
            .insert(text("ce_type", "account.moved"));
        let headers = if self.sequenced { headers.insert(text("ce_entityseq", sequence.as_str())) } else { headers };
        (key, value.into_bytes(), headers)
    }
}

impl Movements {
    /// A number from 0 up to, not including, 1.
    fn roll(&mut self) -> f64 {
        // SplitMix64.
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, count: usize) -> usize {
        ((self.roll() * count as f64) as usize).min(count - 1)
    }

    fn entity(&mut self) -> usize {
        match self.stream.shape {
            Shape::Uniform => self.below(self.stream.entities),
            Shape::One => 0,
            Shape::Zipf => {
                let at = self.roll() * self.heaped[self.heaped.len() - 1];
                self.heaped.partition_point(|sum| *sum < at).min(self.heaped.len() - 1)
            }
            Shape::Lopsided => {
                let side = usize::from(self.roll() >= 0.8);
                let at = self.below(self.sides[side].len());
                self.sides[side][at]
            }
        }
    }
}

impl Iterator for Movements {
    type Item = Movement;

    fn next(&mut self) -> Option<Movement> {
        if self.number == self.stream.events {
            return None;
        }
        let entity = self.entity();
        self.sequences[entity] += 1;
        let amount_minor = self.below(20_001) as i64 - 10_000;
        self.number += 1;
        Some(Movement { number: self.number, entity, sequence: self.sequences[entity], amount_minor })
    }
}
