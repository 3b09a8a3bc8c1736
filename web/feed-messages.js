// @ts-check
/** Makes the messages about the feeds of conversations. This module performs no I/O. */

/** The number and the id of the last event of a feed that a client has; -1 is before the first event, null is the end. @typedef {{number: number | null, id: string | null}} Cursor */

/** Follows a conversation, or the list if it is null. @param {string | null} conversation @param {Cursor} cursor */
export function follow(conversation, { number, id }) {
  return { type: "holdline:follow", conversation, starting_after: number, ...(id && { event_id: id }) };
}

/** @param {string | null} conversation */
export const unfollow = (conversation) => ({ type: "holdline:unfollow", conversation });

/** @param {string} conversation @param {number} number */
export const markRead = (conversation, number) => ({ type: "holdline:read", conversation, sequence_number: number });
