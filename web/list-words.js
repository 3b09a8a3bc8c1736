// @ts-check
/** The English texts of the list of conversations, and of the branches of a conversation. */

/** @typedef {Readonly<Record<keyof typeof LIST, string>>} ListWords */

export const LIST = {
  list: "Conversations",
  listUnread: "Conversations, some unread",
  closeList: "Close the conversations",
  search: "Search by title",
  nothingFound: "No conversation has this title.",
  noConversations: "There are no conversations yet.",
  more: "Show more",
  untitled: "Untitled",
  unreadMark: "unread",
  runningMark: "is being answered",
  rename: "Rename {title}",
  newTitle: "New title",
  save: "Save",
  export: "Export {title} as Markdown",
  remove: "Delete {title}",
  removeQuestion: "Delete “{title}” on all devices?",
  removeNow: "Delete",
  keep: "Keep",
  listFailed: "That failed: {why}",
  earlierBranch: "Earlier version",
  laterBranch: "Later version",
  branch: "Version {place} of {count}",
};
