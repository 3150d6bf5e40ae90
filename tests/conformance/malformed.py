"""Packets that no client may send: each ends the session, as nothing that follows can be trusted."""

from __future__ import annotations

from tests.conformance.registry import ALL, BOTH, POLLING, WEBSOCKET, malformed

malformed(
    BOTH,
    "An unknown Engine.IO packet ends the session",
    engine_text="abc",
    engine_unknown_type="7",
    engine_two_digits="94",
    engine_empty="",
)
malformed(
    POLLING,
    "A payload that is not one ends the session",
    payload_empty_packet=("6", "", "6"),
    payload_separator_at_end=("6", ""),
    payload_bad_last=("6", "x"),
)
malformed(WEBSOCKET, "A frame is one packet, not a payload", websocket_payload='42["x"]\x1e42["y"]')
malformed(ALL, "An unknown Socket.IO packet type ends the session", type_text="4abc", type_seven="47", type_nine="49")
malformed(BOTH, "A message without a Socket.IO packet ends the session", message_empty="4")
malformed(
    BOTH,
    "The payload of an event is a list that begins with its name",
    event_object="42{}",
    event_string='42"ping"',
    event_null="42null",
    event_empty_list="42[]",
    event_null_name="42[null]",
    event_bool_name="42[true]",
    event_list_name="42[[]]",
    event_object_name='42[{"a":1}]',
)
malformed(
    BOTH,
    "The payload is JSON",
    json_unclosed='42["x"',
    json_trailing='42["x"]]',
    json_two='42["x"]["y"]',
    json_quotes="42['x']",
    json_comma='42["x",]',
    json_nan='42["x",NaN]',
    json_infinity='42["x",Infinity]',
    json_raw_control='42["x","\n"]',
    json_bad_escape='42["\\x"]',
    json_leading_zero='42["x",01]',
)
malformed(
    BOTH,
    "Only an id stands between namespace and payload",
    id_text='42abc["x"]',
    id_negative='42-1["x"]',
    id_fraction='421.5["x"]',
    id_then_text='4212abc["x"]',
    namespace_twice='42/,/,["x"]',
    comma_without_namespace='42,["x"]',
)
malformed(
    BOTH,
    "A reserved name is no event of a client",
    reserved_connect='42["connect"]',
    reserved_connect_error='42["connect_error",{}]',
    reserved_disconnect='42["disconnect"]',
    reserved_disconnecting='42["disconnecting"]',
    reserved_new_listener='42["newListener"]',
    reserved_remove_listener='42["removeListener"]',
    reserved_with_id='421["disconnect"]',
    reserved_binary=('451-["connect",{"_placeholder":true,"num":0}]', b"a"),
)
malformed(
    BOTH,
    "The payload of an acknowledgement is a list",
    ack_object="431{}",
    ack_string='431"x"',
    ack_null="431null",
    ack_broken="431[",
)
malformed(
    BOTH,
    "The payload of a connect is an object",
    connect_list="40/random,[]",
    connect_string='40/random,"token"',
    connect_null="40/random,null",
    connect_broken='40/random,{"token"',
)
malformed(
    BOTH, "A disconnect has no payload", disconnect_object="41{}", disconnect_list="41[]", disconnect_null="41null"
)
malformed(
    BOTH,
    "A client does not send connect errors",
    connect_error="44{}",
    connect_error_elsewhere='44/random,{"message":""}',
)
malformed(
    BOTH,
    "A binary packet announces how many attachments follow",
    binary_no_count='45["x",{"_placeholder":true,"num":0}]',
    binary_no_dash='451["x",{"_placeholder":true,"num":0}]',
    binary_zero='450-["x"]',
    binary_text_count='45a-["x",{"_placeholder":true,"num":0}]',
    binary_negative='45-1-["x",{"_placeholder":true,"num":0}]',
    binary_fraction='451.5-["x",{"_placeholder":true,"num":0}]',
    binary_far_too_many='4565536-["x",{"_placeholder":true,"num":0}]',
    binary_absurd='459999999999999999999-["x"]',
    binary_nothing="45",
    binary_not_a_list="451-{}",
    binary_ack_no_count="46[]",
    binary_ack_not_a_list="461-1{}",
    count_on_text_event='421-["x"]',
)
