//! What metrics become: times, nulls, qualities, units, types, data sets, templates.
