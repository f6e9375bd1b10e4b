//! One way to change settings for all sources: file, environment, command line and the admin call all come down to
//! `(dotted key, value)` pairs laid over what there is.
//!
//! Written by hand because every error has to name its key, also for values that only fail when they are parsed, and
//! because a change must be applied whole or not at all.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::KnobError;

/// A change: which key, to what.
pub type Change = (String, Value);

/// A JSON object as the list of changes it asks for: `{"request":{"hang":0.1}}` is `request.hang = 0.1`.
///
/// # Errors
/// When it is no object.
pub fn changes_in(patch: &Value) -> Result<Vec<Change>, KnobError> {
    if !patch.is_object() {
        return Err(KnobError::new("(body)", "must be a JSON object of settings"));
    }
    let mut changes = Vec::new();
    collect("", patch, &mut changes);
    Ok(changes)
}

fn collect(prefix: &str, value: &Value, changes: &mut Vec<Change>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(&key, member, changes);
            }
        }
        leaf => changes.push((prefix.to_owned(), leaf.clone())),
    }
}

/// Lays `changes` over `current`, all or none.
///
/// # Errors
/// The first key that is unknown or whose value has the wrong type. Ranges are checked by whoever owns the type.
pub fn apply<T: Serialize + DeserializeOwned>(current: &T, changes: &[Change]) -> Result<T, KnobError> {
    let mut tree = tree_of(current)?;
    for (key, value) in changes {
        let place = find(&mut tree, key)?;
        if let Some(wanted) = type_mismatch(place, value) {
            return Err(KnobError::new(key, format!("must be {wanted}")));
        }
        *place = value.clone();
        // Read the whole back after each change: whatever is refused now is refused because of this key.
        serde_json::from_value::<T>(tree.clone()).map_err(|error| KnobError::new(key, error.to_string()))?;
    }
    serde_json::from_value(tree).map_err(|error| KnobError::new("(settings)", error.to_string()))
}

/// A change whose value is text from the environment or the command line, read as what `current` has at that key.
///
/// # Errors
/// When the key is unknown or the text is no such value.
pub fn change_from_text<T: Serialize>(current: &T, key: &str, text: &str) -> Result<Change, KnobError> {
    let mut tree = tree_of(current)?;
    let place = find(&mut tree, key)?;
    let value = match place {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Object(_) => return Err(KnobError::new(key, "is a group of settings; name one of them")),
        other => {
            let parsed: Value = serde_json::from_str(text).unwrap_or(Value::String(text.to_owned()));
            if let Some(wanted) = type_mismatch(other, &parsed) {
                return Err(KnobError::new(key, format!("must be {wanted}, not {text:?}")));
            }
            parsed
        }
    };
    Ok((key.to_owned(), value))
}

fn tree_of<T: Serialize>(current: &T) -> Result<Value, KnobError> {
    serde_json::to_value(current).map_err(|error| KnobError::new("(settings)", error.to_string()))
}

fn find<'tree>(tree: &'tree mut Value, key: &str) -> Result<&'tree mut Value, KnobError> {
    let mut place = tree;
    for name in key.split('.') {
        place = match place {
            Value::Object(members) => members.get_mut(name),
            _ => None,
        }
        .ok_or_else(|| KnobError::new(key, "there is no such setting"))?;
    }
    Ok(place)
}

fn type_mismatch(present: &Value, offered: &Value) -> Option<&'static str> {
    match (present, offered) {
        (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => None,
        (Value::Object(_), _) => Some("an object, because it is a group of settings"),
        (Value::Bool(_), _) => Some("true or false"),
        (Value::Number(_), _) => Some("a number"),
        (Value::String(_), _) => Some("a text"),
        (Value::Null | Value::Array(_), _) => Some("left alone"),
    }
}
