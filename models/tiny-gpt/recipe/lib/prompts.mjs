// What SmolLM2 is asked to write about: combinations of plain words, chosen by their number alone.

const people =
  `a little girl|a boy|an old man|a farmer|a teacher|a baker|a doctor|a sailor|a young queen|a king|a grandmother|two brothers|three friends|a painter|a fisherman|a nurse|a singer|a soldier|a student|a shy boy|a clever girl|a cook|a gardener|a carpenter|a librarian|a pilot|a shepherd|a musician|a postman|a tired mother|a kind father|twin sisters|a new neighbor|a traveler|a shopkeeper|a poor man|a rich woman|a scientist|a bus driver|a dancer`.split(
    "|",
  );
const animals =
  `cat|dog|horse|bird|mouse|fox|rabbit|bear|duck|frog|sheep|cow|lion|elephant|owl|fish|turtle|bee|wolf|goat|hen|pig|monkey|squirrel|butterfly|whale|donkey|crow|tiger|hedgehog`.split(
    "|",
  );
const things =
  `a red ball|an old book|a lost key|a broken clock|a letter|a wooden boat|a kite|a loaf of bread|a lamp|a blue hat|a garden|a bicycle|a small box|a map|a piano|a birthday cake|a warm coat|a silver coin|a picture|a bridge|a train|a tent|a bucket of water|a basket of apples|a chair|a window|a mirror|a candle|a drum|a pair of shoes|a telescope|a seed|a snowman|a rope|a cup of tea|a stone|a ladder|a blanket|a toy car|a garden gate`.split(
    "|",
  );
const places =
  `in a small village|by the sea|in the forest|on a farm|in a big city|at school|on a hill|near the river|in an old house|at the market|in the mountains|on an island|in a quiet street|at the station|in the kitchen|in a park|on a ship|in the snow|at the library|in a hospital|under a large tree|in a castle|at the beach|on a train|in the desert`.split(
    "|",
  );
const feelings =
  `happy|sad|afraid|tired|proud|lonely|curious|angry|hungry|brave|kind|patient|surprised|grateful|bored`.split(
    "|",
  );
const topics =
  `the sun|the moon|water|rain|snow|wind|rivers|the ocean|mountains|trees|flowers|bees|cats|dogs|horses|birds|fish|elephants|whales|bread|milk|cheese|rice|apples|salt|sugar|tea|coffee|bicycles|trains|ships|airplanes|bridges|roads|houses|schools|hospitals|libraries|books|paper|glass|iron|gold|wood|music|painting|dancing|football|swimming|chess|farming|cooking|money|markets|kings|castles|wars|maps|clocks|calendars|the alphabet|language|numbers|computers|telephones|electricity|light|sound|heat|magnets|the heart|the brain|bones|teeth|sleep|dreams|medicine|France|England|China|India|Egypt|Japan|Italy|Africa|America|Australia|London|Paris|Rome|New York|the desert|the forest|islands|volcanoes|earthquakes|stars|planets|the Earth|dinosaurs|insects|spiders|snakes|frogs|gardens|spring|summer|autumn|winter|families|friends|holidays|birthdays|letters|newspapers|radio|television|cars|clothes|shoes`.split(
    "|",
  );
const questions = [
  (t) => `What is important to know about ${t}?`,
  (t) => `Why do people like ${t}?`,
  (t) => `Can you explain ${t} to a child?`,
  (t) => `How have ${t} changed over time?`,
  (t) => `What is an interesting fact about ${t}?`,
  (t) => `Where can one learn about ${t}?`,
];

const kinds = [
  // A story.
  (of) => {
    const [who, what, where] = [of(people), of(things), of(places)];
    return { ask: `Write a very short story in simple words about ${who} and ${what} ${where}.` };
  },
  (of) => {
    const [animal, where, how] = [of(animals), of(places), of(feelings)];
    return {
      ask: `Write a very short story for children about a ${how} ${animal} ${where}. Use short sentences.`,
    };
  },
  // Simple sentences.
  (of) => {
    const [animal, where] = [of(animals), of(places)];
    return { ask: `Write five simple sentences about a ${animal} ${where}. Do not number them.` };
  },
  (of) => {
    const [who, how, where] = [of(people), of(feelings), of(places)];
    return { ask: `Describe in a few simple sentences how ${who} is ${how} ${where}.` };
  },
  // A question and its answer: the question stands before the answer in the text.
  (of) => {
    const question = of(questions)(of(topics));
    return {
      ask: `${question} Answer in two or three sentences.`,
      before: `Question: ${question}\nAnswer: `,
    };
  },
  // An encyclopaedia's paragraph.
  (of) => ({ ask: `Write a short paragraph about ${of(topics)} for an encyclopedia.` }),
];

/** What is asked for text number `i`, and what stands before the answer in the text. */
export function promptOf(i) {
  let state = (i + 1) * 2654435761;
  const next = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const of = (list) => list[Math.floor(next() * list.length)];
  return kinds[i % kinds.length](of);
}
