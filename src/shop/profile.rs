//! Profiles: two fields that change on their own; each is the last one applied.

use std::fmt;

use serde_json::Value as Json;

use super::fields::Fields;
use crate::core::{
    effect::{Effects, Objection},
    kind::{Entity, EventType, Invalid, Nature},
    rows::Rows,
};

const EMAIL_CHANGED: &str = "profile.email_changed";
const PASSWORD_CHANGED: &str = "profile.password_changed";

crate::table! {
    /// A user's profile.
    main Profile in "shop"."profile" {
        /// The user.
        key user_id: String;
        /// The last e-mail address, if one was told.
        email: Option<String>,
        /// The last password hash, if one was told.
        password_hash: Option<String>,
    }
}

/// The kind.
#[derive(Debug)]
pub struct Profiles;

/// What happens to a profile.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// `profile.email_changed`.
    EmailChanged(String),
    /// `profile.password_changed`.
    PasswordChanged(String),
}

/// Neither address nor hash belongs into a log.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmailChanged(_) => "EmailChanged",
            Self::PasswordChanged(_) => "PasswordChanged",
        })
    }
}

impl Entity for Profiles {
    const KIND: &'static str = "profile";
    const TOPIC: &'static str = "profiles";
    const KEY_FIELD: &'static str = "user_id";
    const EVENTS: &'static [EventType] = &[
        EventType { name: EMAIL_CHANGED, nature: Nature::Fact },
        EventType { name: PASSWORD_CHANGED, nature: Nature::Fact },
    ];
    type Main = Profile;
    type Event = Event;

    fn parse(event_type: &str, data: &Json) -> Result<Event, Invalid> {
        let fields = Fields::of(data);
        fields.id("user_id")?;
        if event_type == EMAIL_CHANGED {
            Ok(Event::EmailChanged(fields.text("email")?))
        } else {
            Ok(Event::PasswordChanged(fields.text("password_hash")?))
        }
    }

    fn decide(&self, rows: &mut Rows<'_>, event: &Event, _effects: &mut Effects) -> Result<(), Objection> {
        let new = || Profile { user_id: rows.entity_id().to_owned(), email: None, password_hash: None };
        let mut profile = rows.main::<Profile>().unwrap_or_else(new);
        match event {
            Event::EmailChanged(email) => profile.email = Some(email.clone()),
            Event::PasswordChanged(hash) => profile.password_hash = Some(hash.clone()),
        }
        rows.put(profile);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{EMAIL_CHANGED, Event, PASSWORD_CHANGED, Profile, Profiles};
    use crate::testing::given;

    #[test]
    fn the_two_fields_never_undo_each_other() {
        let first = given(Profiles).event(EMAIL_CHANGED, json!({"user_id": "u", "email": "a@b"}));
        let second = first.event(PASSWORD_CHANGED, json!({"user_id": "u", "password_hash": "h"}));
        let third = second.when(EMAIL_CHANGED, json!({"user_id": "u", "email": "c@d"})).then_applied();
        let (email, password_hash) = (Some("c@d".to_owned()), Some("h".to_owned()));
        third.then_row(Profile { user_id: "u".to_owned(), email, password_hash });
    }

    #[test]
    fn each_event_brings_its_own_field() {
        given(Profiles).when(EMAIL_CHANGED, json!({"user_id": "u", "password_hash": "h"})).then_invalid("email");
        given(Profiles).when(PASSWORD_CHANGED, json!({"user_id": "u", "email": "e"})).then_invalid("password_hash");
    }

    #[test]
    fn a_logged_event_tells_nothing_personal() {
        assert_eq!(format!("{:?}", Event::EmailChanged("a@b".to_owned())), "EmailChanged");
    }
}
