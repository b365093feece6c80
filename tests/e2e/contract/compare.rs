//! Whether a version of a contract still has all that another one had.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use wit_parser::{
    Handle, InterfaceId, Package, Resolve, Type, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem, WorldKey,
};

/// What of the packages before is not in the packages today, in words: each minor version is served for ever, an interface stays as it is
/// item by item, and a world may import more. Documentation does not count.
pub fn broken(before: &Resolve, today: &Resolve) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (_, package) in &before.packages {
        let Some(now) = today.packages.iter().map(|(_, now)| now).find(|now| continues(package, now)) else {
            let name = &package.name;
            let version = name.version.as_ref().context("a version")?;
            let (major, minor) = (version.major, version.minor);
            broken.push(format!("{}:{} has no version {major}.{minor} any more", name.namespace, name.name));
            continue;
        };
        for (name, id) in &package.interfaces {
            match now.interfaces.get(name) {
                Some(other) => compare(name, &items(before, *id)?, &items(today, *other)?, &mut broken),
                None => broken.push(format!("the interface {name} is gone")),
            }
        }
        for (name, id) in &package.worlds {
            let Some(other) = now.worlds.get(name) else {
                broken.push(format!("the world {name} is gone"));
                continue;
            };
            let ((imports, exports), (more, others)) = (world(before, *id)?, world(today, *other)?);
            broken.extend(
                imports.difference(&more).map(|gone| format!("the world {name} no longer imports {gone}")),
            );
            if exports != others {
                broken.push(format!("the world {name} exports something else: {exports:?}, now {others:?}"));
            }
        }
    }
    Ok(broken)
}

/// Whether a package is the same, of the same minor version.
fn continues(before: &Package, now: &Package) -> bool {
    let minor =
        |package: &Package| package.name.version.as_ref().map(|version| (version.major, version.minor));
    let (old, new) = (&before.name, &now.name);
    old.namespace == new.namespace && old.name == new.name && minor(before) == minor(now)
}

fn compare(
    interface: &str,
    before: &BTreeMap<String, String>,
    today: &BTreeMap<String, String>,
    broken: &mut Vec<String>,
) {
    for (item, text) in before {
        match today.get(item) {
            None => broken.push(format!("{interface}: the {item} is gone")),
            Some(now) if now != text => {
                broken.push(format!("{interface}: the {item} was {text}, and is {now}"));
            }
            Some(_) => {}
        }
    }
    let new = today.keys().filter(|item| !before.contains_key(*item));
    broken
        .extend(new.map(|item| format!("{interface}: the {item} is new in an interface that was published")));
}

/// Names of interfaces that a world imports, and of those that it exports.
fn world(resolve: &Resolve, id: WorldId) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let name = |(key, item): (&WorldKey, &WorldItem)| match (key, item) {
        (WorldKey::Interface(id), WorldItem::Interface { .. }) => {
            resolve.interfaces[*id].name.clone().context("an interface's name")
        }
        _ => bail!("{key:?}: worlds have interfaces that are named, and nothing else"),
    };
    let world = &resolve.worlds[id];
    Ok((
        world.imports.iter().map(name).collect::<Result<_>>()?,
        world.exports.iter().map(name).collect::<Result<_>>()?,
    ))
}

/// All that an interface has: what each item is called, and what it looks like to a component.
fn items(resolve: &Resolve, id: InterfaceId) -> Result<BTreeMap<String, String>> {
    let interface = &resolve.interfaces[id];
    let mut items = BTreeMap::new();
    for (name, id) in &interface.types {
        items.insert(format!("type {name}"), structure(resolve, *id)?);
    }
    for (name, function) in &interface.functions {
        let param =
            |param: &wit_parser::Param| Ok(format!("{}: {}", param.name, type_name(resolve, &param.ty)?));
        let params = function.params.iter().map(param).collect::<Result<Vec<String>>>()?;
        let result = function.result.as_ref().map(|result| type_name(resolve, result)).transpose()?;
        let waits = if function.kind.is_async() { "async " } else { "" };
        let text = format!("{waits}({}) -> {}", params.join(", "), result.unwrap_or_default());
        items.insert(format!("function {name}"), text);
    }
    Ok(items)
}

/// A type as others speak of it: by its name, if it has one.
fn type_name(resolve: &Resolve, kind: &Type) -> Result<String> {
    let Type::Id(id) = kind else { return Ok(format!("{kind:?}").to_lowercase()) };
    let definition = &resolve.types[*id];
    match (&definition.name, definition.owner) {
        (Some(name), TypeOwner::Interface(owner)) => {
            let owner = resolve.interfaces[owner].name.as_deref().unwrap_or_default();
            Ok(format!("{owner}.{name}"))
        }
        _ => structure(resolve, *id),
    }
}

/// What a type consists of.
fn structure(resolve: &Resolve, id: TypeId) -> Result<String> {
    let name = |kind: &Type| type_name(resolve, kind);
    let optional = |kind: &Option<Type>| kind.as_ref().map_or(Ok("_".to_owned()), name);
    let names = |kinds: &[Type]| {
        Ok::<_, anyhow::Error>(kinds.iter().map(name).collect::<Result<Vec<_>>>()?.join(", "))
    };
    Ok(match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let field = |field: &wit_parser::Field| Ok(format!("{}: {}", field.name, name(&field.ty)?));
            format!(
                "record {{ {} }}",
                record.fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(", ")
            )
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &wit_parser::Case| Ok(format!("{}({})", case.name, optional(&case.ty)?));
            format!(
                "variant {{ {} }}",
                variant.cases.iter().map(case).collect::<Result<Vec<_>>>()?.join(", ")
            )
        }
        TypeDefKind::Enum(kind) => {
            let cases: Vec<&str> = kind.cases.iter().map(|case| case.name.as_str()).collect();
            format!("enum {{ {} }}", cases.join(", "))
        }
        TypeDefKind::Flags(flags) => {
            let flags: Vec<&str> = flags.flags.iter().map(|flag| flag.name.as_str()).collect();
            format!("flags {{ {} }}", flags.join(", "))
        }
        TypeDefKind::Resource => "resource".to_owned(),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", name(&Type::Id(*id))?),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", name(&Type::Id(*id))?),
        TypeDefKind::Tuple(tuple) => format!("tuple<{}>", names(&tuple.types)?),
        TypeDefKind::Option(kind) => format!("option<{}>", name(kind)?),
        TypeDefKind::List(kind) => format!("list<{}>", name(kind)?),
        TypeDefKind::Result(result) => {
            format!("result<{}, {}>", optional(&result.ok)?, optional(&result.err)?)
        }
        TypeDefKind::Type(kind) => format!("the same as {}", name(kind)?),
        other => bail!("{other:?} is not compared yet: say here what it looks like"),
    })
}
