//! Tests against an in-process hub.
