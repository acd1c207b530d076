//! Statuses as closed sets of words: an enum in the code, a text in the table.

/// Declares an enum whose variants stand in a text column as the words given.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// The word of the contract.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::core::rows::Cell for $name {
            const TYPE: $crate::core::table::Type = $crate::core::table::Type::Text;
            fn from_value(value: &$crate::core::table::Value) -> Option<Self> {
                let $crate::core::table::Value::Text(text) = value else { return None };
                [$(Self::$variant),+].into_iter().find(|word| word.as_str() == text)
            }
            fn into_value(self) -> $crate::core::table::Value {
                $crate::core::table::Value::Text(self.as_str().to_owned())
            }
        }
    };
}

pub(super) use words;
