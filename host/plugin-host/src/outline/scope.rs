//! A component as it is read: which modules and components can be instantiated in it under which numbers, and what that comes to.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef,
    Instance, Payload,
};

use super::inventory::Inventory;
use super::{Level, OutlineError};

/// Something that can be instantiated; none: it is not in the file, but handed in from somewhere.
type Known = Option<Inventory>;

/// One component, so far.
#[derive(Debug, Default)]
pub(super) struct Scope {
    modules: Vec<Known>,
    components: Vec<Known>,
    /// What an instance of it consists of.
    pub total: Inventory,
}

impl Scope {
    /// A module in it ends here.
    pub(super) fn add_module(&mut self, instance: Inventory) {
        self.modules.push(Some(instance));
    }

    /// A component in it ends here.
    pub(super) fn add_component(&mut self, instance: Inventory) {
        self.components.push(Some(instance));
    }

    /// A section of it. `above`: the components around it, the outermost first.
    pub(super) fn section(&mut self, payload: Payload<'_>, above: &[Level]) -> Result<(), OutlineError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    match instance? {
                        Instance::Instantiate { module_index, .. } => {
                            let made = instantiated("module", &self.modules, module_index)?;
                            self.total.add(&made);
                        }
                        Instance::FromExports(_) => self.total.add_component_instance(),
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    self.total.add_component_instance();
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        let made = instantiated("component", &self.components, component_index)?;
                        self.total.add(&made);
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => self.total.add_canonicals(section.count()),
            Payload::ComponentImportSection(section) => {
                for import in section {
                    match import?.ty {
                        ComponentTypeRef::Module(_) => self.modules.push(None),
                        ComponentTypeRef::Component(_) => self.components.push(None),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.name_again(export.kind, export.index);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(&alias?, above);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What is exported has a second number from then on.
    fn name_again(&mut self, kind: ComponentExternalKind, index: u32) {
        let same = |known: &[Known]| known.get(index as usize).copied().flatten();
        match kind {
            ComponentExternalKind::Module => self.modules.push(same(&self.modules)),
            ComponentExternalKind::Component => self.components.push(same(&self.components)),
            _ => {}
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>, above: &[Level]) {
        match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                self.modules.push(None);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                self.components.push(None);
            }
            ComponentAlias::Outer { kind, count, index } => {
                let outer = match (count as usize).checked_sub(1) {
                    None => Some(&*self),
                    Some(beyond) => above.iter().rev().nth(beyond).and_then(|level| match level {
                        Level::Component(scope) => Some(scope),
                        Level::Module(_) => None,
                    }),
                };
                let from = |all: fn(&Self) -> &Vec<Known>| {
                    outer.and_then(|scope| all(scope).get(index as usize).copied().flatten())
                };
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let known = from(|scope| &scope.modules);
                        self.modules.push(known);
                    }
                    ComponentOuterAliasKind::Component => {
                        let known = from(|scope| &scope.components);
                        self.components.push(known);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn instantiated(what: &str, known: &[Known], index: u32) -> Result<Inventory, OutlineError> {
    known.get(index as usize).copied().flatten().ok_or_else(|| {
        OutlineError::Unusual(format!(
            "it instantiates a {what} that is handed in from somewhere, so that nobody knows what that costs: \
             put the {what} itself into the component that instantiates it"
        ))
    })
}
