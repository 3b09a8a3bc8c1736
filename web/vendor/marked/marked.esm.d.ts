/** Of marked, what we use; this file is ours. */

export type Token = { type: string; raw: string; tokens?: Token[]; [name: string]: any };

export class Lexer {
  constructor(options?: object);
  tokens: Token[] & { links: { [name: string]: any } };
  lex(text: string): Token[];
  inline(text: string, tokens?: Token[]): Token[];
  inlineTokens(text: string, tokens?: Token[]): Token[];
}

export class Tokenizer {
  table(text: string): Token | undefined;
  lheading(text: string): Token | undefined;
  blockquote(text: string): Token | undefined;
  list(text: string): Token | undefined;
}
