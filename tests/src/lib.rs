//! Scenario tests over the real components, and rules about the shape of the code.
