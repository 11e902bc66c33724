//! stub: what is slow: name resolution on plain threads, reached by channels.
