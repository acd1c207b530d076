//! The rows that one event may touch, and what it does to them.
//!
//! A handler reads and writes here; nothing reaches the lane's state unless the handler agrees to the
//! event, so an event that fails midway leaves no trace. Touching a row that was not loaded is a bug in
//! the kind's `rows`, and says so: the entity is quarantined, nothing is guessed.

use std::collections::BTreeMap;

use super::{
    saga::Instance,
    state::{Address, State},
    table::{Bytes, Key, Table, Type, Value},
};

/// A Rust type that stands in one column.
pub trait Cell: Sized {
    /// The column's type.
    const TYPE: Type;
    /// Reads the cell; `None` if it holds something else.
    fn from_value(value: &Value) -> Option<Self>;
    /// The cell to be written.
    fn into_value(self) -> Value;
}

impl Cell for String {
    const TYPE: Type = Type::Text;
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
    fn into_value(self) -> Value {
        Value::Text(self)
    }
}

impl Cell for i64 {
    const TYPE: Type = Type::Int;
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Int(number) = value { Some(*number) } else { None }
    }
    fn into_value(self) -> Value {
        Value::Int(self)
    }
}

impl<C: Cell> Cell for Option<C> {
    const TYPE: Type = C::TYPE;
    fn from_value(value: &Value) -> Option<Self> {
        if *value == Value::Null { Some(None) } else { C::from_value(value).map(Some) }
    }
    fn into_value(self) -> Value {
        self.map_or(Value::Null, C::into_value)
    }
}

impl Cell for Bytes {
    const TYPE: Type = Type::Bytes;
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
    }
    fn into_value(self) -> Value {
        Value::Bytes(self)
    }
}

/// A point in time: microseconds since the epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Cell for Micros {
    const TYPE: Type = Type::Time;
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Time(micros) = value { Some(Self(*micros)) } else { None }
    }
    fn into_value(self) -> Value {
        Value::Time(self.0)
    }
}

/// A JSON document as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(pub String);

impl Cell for Json {
    const TYPE: Type = Type::Json;
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Json(text) = value { Some(Self(text.clone())) } else { None }
    }
    fn into_value(self) -> Value {
        Value::Json(self.0)
    }
}

/// A row of a declared table. Made by [`table!`](crate::table).
pub trait Row: Sized {
    /// Its table.
    fn table() -> &'static Table;
    /// Reads the row's own cells (a main row's runtime columns behind them are not its affair).
    fn from_cells(cells: &[Value]) -> Option<Self>;
    /// The row's own cells in the order of the columns.
    fn into_cells(self) -> Vec<Value>;
}

/// The view that one event has of its entity.
#[derive(Debug)]
pub struct Rows<'a> {
    state: &'a State,
    entity_id: &'a str,
    saga: Option<&'a Instance>,
    pub(crate) changes: BTreeMap<Address, Option<Vec<Value>>>,
}

impl<'a> Rows<'a> {
    /// A view of what `state` knows of an entity and of the saga that lives with it.
    #[must_use]
    pub fn new(state: &'a State, entity_id: &'a str, saga: Option<&'a Instance>) -> Self {
        Self { state, entity_id, saga, changes: BTreeMap::new() }
    }

    /// The id of the entity that the event is about.
    #[must_use]
    pub fn entity_id(&self) -> &str {
        self.entity_id
    }

    /// The row with this key, as the event's own writes left it.
    ///
    /// # Panics
    /// If the row was not named by the kind's `rows`, or does not fit its declaration.
    #[must_use]
    pub fn get<R: Row>(&self, key: Key) -> Option<R> {
        let address = Address::new(R::table(), key);
        let cells = match self.changes.get(&address) {
            Some(changed) => changed.as_ref(),
            None => match self.state.get(&address) {
                Some(loaded) => loaded,
                None => panic!("row of {} was not loaded: name it in the kind's rows", R::table().name),
            },
        };
        cells.map(|cells| match R::from_cells(cells) {
            Some(row) => row,
            None => panic!("row of {} does not fit its declaration", R::table().name),
        })
    }

    /// The entity's main row.
    #[must_use]
    pub fn main<R: Row>(&self) -> Option<R> {
        self.get(vec![Value::Text(self.entity_id.to_owned())])
    }

    /// Writes the row, new or not.
    pub fn put<R: Row>(&mut self, row: R) {
        let cells = row.into_cells();
        let key = cells[..R::table().key].to_vec();
        self.changes.insert(Address::new(R::table(), key), Some(cells));
    }

    /// Removes the row.
    pub fn delete<R: Row>(&mut self, key: Key) {
        self.changes.insert(Address::new(R::table(), key), None);
    }

    /// Every row of `R` that the event itself has written, in key order.
    pub fn written<R: Row>(&self) -> impl Iterator<Item = R> {
        let of_table = self.changes.iter().filter(|(address, _)| std::ptr::eq(address.table, R::table()));
        of_table.filter_map(|(_, cells)| R::from_cells(cells.as_ref()?))
    }

    /// The saga that lives with the entity, if one was begun; nothing again once it is over and was forgotten.
    #[must_use]
    pub fn saga(&self) -> Option<&Instance> {
        self.saga
    }
}

/// Declares a table and the struct of its rows. `main` marks a kind's main table, behind whose columns
/// the runtime keeps `version`, `partition` and `marks`. The key's columns stand before a semicolon.
#[macro_export]
macro_rules! table {
    ($(#[$meta:meta])* main $name:ident in $schema:literal . $table:literal
        { $($(#[$key_meta:meta])* key $key:ident : $key_type:ty),+ ; $($(#[$field_meta:meta])* $field:ident : $field_type:ty,)* }) => {
        $crate::table!(@row $(#[$meta])* $name, $schema, $table, Some(0usize $(+ { let _ = stringify!($key); 1 })+ $(+ { let _ = stringify!($field); 1 })*),
            [("version", $crate::core::table::Type::Int), ("partition", $crate::core::table::Type::Int), ("marks", $crate::core::table::Type::Text)],
            { $($(#[$key_meta])* key $key : $key_type),+ ; $($(#[$field_meta])* $field : $field_type,)* });
    };
    ($(#[$meta:meta])* sub $name:ident in $schema:literal . $table:literal
        { $($(#[$key_meta:meta])* key $key:ident : $key_type:ty),+ ; $($(#[$field_meta:meta])* $field:ident : $field_type:ty,)* }) => {
        $crate::table!(@row $(#[$meta])* $name, $schema, $table, None, [],
            { $($(#[$key_meta])* key $key : $key_type),+ ; $($(#[$field_meta])* $field : $field_type,)* });
    };
    (@row $(#[$meta:meta])* $name:ident, $schema:literal, $table:literal, $version:expr, [$(($extra:literal, $extra_type:expr)),*],
        { $($(#[$key_meta:meta])* key $key:ident : $key_type:ty),+ ; $($(#[$field_meta:meta])* $field:ident : $field_type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$key_meta])* pub $key: $key_type,)+ $($(#[$field_meta])* pub $field: $field_type,)* }

        impl $crate::core::rows::Row for $name {
            fn table() -> &'static $crate::core::table::Table {
                use $crate::core::{rows::Cell, table::{Column, Table}};
                static TABLE: Table = Table {
                    schema: $schema,
                    name: $table,
                    key: 0 $(+ { let _ = stringify!($key); 1 })+,
                    columns: &[
                        $(Column { name: stringify!($key), kind: <$key_type as Cell>::TYPE },)+
                        $(Column { name: stringify!($field), kind: <$field_type as Cell>::TYPE },)*
                        $(Column { name: $extra, kind: $extra_type },)*
                    ],
                    version: $version,
                };
                &TABLE
            }
            fn from_cells(cells: &[$crate::core::table::Value]) -> Option<Self> {
                let mut cells = cells.iter();
                Some(Self {
                    $($key: $crate::core::rows::Cell::from_value(cells.next()?)?,)+
                    $($field: $crate::core::rows::Cell::from_value(cells.next()?)?,)*
                })
            }
            fn into_cells(self) -> Vec<$crate::core::table::Value> {
                vec![
                    $($crate::core::rows::Cell::into_value(self.$key),)+
                    $($crate::core::rows::Cell::into_value(self.$field),)*
                ]
            }
        }
    };
}
