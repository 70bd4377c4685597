// Text -> token ids, the engine's ids whatever the browser knows of Unicode.
//
// @huggingface/tokenizers asks the browser which characters are letters, marks and punctuation; the engine's library has
// tables of its own, of another version of Unicode. So every character is first replaced by what the engine's library makes
// of it (characters.json, written by docs/demo/build.py): itself in lower case, nothing, a space, or one letter that no
// word has. What is left are characters about which nobody disagrees.

const MOST_CHARACTERS = 1_000_000; // as InputLimits of the engine
// What Python calls white space: String.trim() means other characters.
const BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;
const HALF = /\p{Surrogate}/u;

// Texts that the engine refuses are refused here, for the same reasons.
function check(text, name) {
  const count = text.length > MOST_CHARACTERS ? [...text].length : text.length;
  if (count > MOST_CHARACTERS) {
    throw new Error(`${name} has ${count.toLocaleString("en")} characters; at most ${MOST_CHARACTERS.toLocaleString("en")} are accepted: split it`);
  }
  if (BLANK.test(text)) throw new Error(`${name} is empty; pass at least one word`);
  const half = text.match(HALF);
  if (half !== null) {
    const code = half[0].charCodeAt(0).toString(16).toUpperCase();
    throw new Error(`${name} has half a character, U+${code}, at place ${[...text.slice(0, half.index)].length}`);
  }
}

// ranges : [first, last, replacement], in rising order
function replacer({ unknown, ranges }) {
  return (character) => {
    const code = character.codePointAt(0);
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ranges[middle][1] < code) low = middle + 1;
      else high = middle;
    }
    return low < ranges.length && ranges[low][0] <= code ? ranges[low][2] : unknown;
  };
}

// A function of a text and a second one or null, that returns { ids, types }. It throws for texts that the engine refuses.
export function encoder(Tokenizer, tokenizerJson, characters, maxLength) {
  const tokenizer = new Tokenizer(tokenizerJson, {});
  const replace = replacer(characters);
  // "[SEP]" in a text is that token, as in the engine: these are looked for before anything is replaced.
  const special = tokenizerJson.added_tokens.map(({ content }) => content.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  const between = new RegExp(`(${special.join("|")})`);
  const plain = (text) => text.split(between)
    .map((part, index) => (index % 2 === 1 ? part : Array.from(part, replace).join(""))).join("");

  return (text, pair) => {
    check(text, "the text");
    if (pair !== null) check(pair, "the second text of the text");
    const row = tokenizer.encode(plain(text), { text_pair: pair === null ? null : plain(pair), return_token_type_ids: true });
    if (row.ids.length > maxLength) {
      throw new Error(`the text has ${row.ids.length} tokens; this model accepts at most ${maxLength}: shorten it`);
    }
    return { ids: row.ids, types: row.token_type_ids };
  };
}
