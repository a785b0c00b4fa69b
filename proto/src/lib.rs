//! The wire contract: messages and gRPC services of Rollcall, generated from the `.proto` files beside this crate.
//!
//! Generated code is checked in under `src/gen`, so that no build needs a protobuf compiler.
//! `cargo test -p rollcall-proto` fails when it is stale and says how to write it anew.

/// What is said on Kafka: package `rollcall.lifecycle.v1`.
pub mod lifecycle {
    /// Version 1; changes are additive only.
    #[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
    pub mod v1 {
        include!("gen/rollcall.lifecycle.v1.rs");
    }
}

/// What is asked over gRPC: package `rollcall.diagnostics.v1`.
pub mod diagnostics {
    /// Version 1; changes are additive only.
    #[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
    pub mod v1 {
        include!("gen/rollcall.diagnostics.v1.rs");
    }
}

/// What a module asks of whoever looks after its servers: package `rollcall.provisioning.v1`.
pub mod provisioning {
    /// Version 1; changes are additive only.
    #[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
    pub mod v1 {
        include!("gen/rollcall.provisioning.v1.rs");

        /// Without the verifier, which is a credential.
        impl std::fmt::Debug for RoleVerifier {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("RoleVerifier").field("role", &self.role).finish_non_exhaustive()
            }
        }
    }
}

/// The descriptors of every file above, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
