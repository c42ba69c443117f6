//! PostgreSQL's messages as bytes: frames, the startup packet, and the few messages that we read and make.
//!
//! Pure, and total: whatever the bytes are, a reader answers with a value or with nothing, never with a panic. What a
//! client sent is never decoded and encoded again. Does not know what a conversation is (that is `session`).

mod frame;
mod make;
mod read;
mod sasl;
mod scram;
mod startup;

pub use frame::{FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header, Peer, header};
pub use make::{
    bind_text, close_portal, close_statement, describe_portal, error_response, error_with, error_with_hint,
    execute_all, fatal_response, flush, notice_response, parse, query, ready_for_query, sync,
};
pub use read::{
    Parse, bind_names, c_string, close_target, data_row, describe_target, error_field, execute_portal, notice_is_fatal,
    parameter_status, parse_frame, query_text, ready_status,
};
pub use sasl::{
    Authentication, authentication, authentication_sasl, authentication_sasl_final, sasl_initial,
    sasl_initial_response, sasl_mechanisms, sasl_response,
};
pub use scram::{Binding, Malformed, SCRAM, SCRAM_PLUS, Translation, Verifier, client_binding};
pub use startup::{SSL_REQUEST_PACKET, STARTUP_BYTES_MAX, Startup, StartupError, StartupParameters, startup};
