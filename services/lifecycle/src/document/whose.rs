//! Whose a component is: the namespace of the fragment that declares it.

use super::{Declared, Environment, Source};
use crate::{Component, Kind};

impl Environment {
    /// The namespace of the fragment that declares what a provisioner makes, or a server that it is on.
    pub fn namespace_of(&self, component: &Component) -> Option<&str> {
        fn of<'a, T: 'a>(
            mut all: impl Iterator<Item = Declared<'a, T>>,
            component: &Component,
        ) -> Option<&'a Source> {
            all.find(|declared| declared.component == *component).map(|declared| declared.source)
        }
        let source = match component.kind() {
            Kind::Postgres => of(self.postgres(), component),
            Kind::Kafka => of(self.kafka(), component),
            Kind::Database => of(self.databases(), component),
            Kind::Role => of(self.roles(), component),
            Kind::Migration => of(self.migrations(), component),
            Kind::Step => of(self.steps(), component),
            Kind::Topic => of(self.topics(), component),
            Kind::Client => of(self.clients(), component),
            Kind::Secret => of(self.secrets(), component),
            Kind::ConfigMap => of(self.configmaps(), component),
            Kind::Group | Kind::Endpoint | Kind::Module => None,
        };
        Some(&source?.document.fragment.namespace)
    }
}
