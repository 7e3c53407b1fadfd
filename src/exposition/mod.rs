//! exposition: to be written.
