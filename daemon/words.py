"""Words for random names: what a sailor may be, and people who taught us something about nature or machines."""

_ADJECTIVES = """
    able admiring agile amazing ardent awake blissful bold brave bright brisk busy calm careful charming
    cheerful clever cool cosy curious daring dazzling deft determined distracted dreamy eager earnest easy
    ecstatic elated elegant eloquent epic fair faithful fearless fervent festive fine focused fond frank free
    friendly frosty funny gallant generous gentle gifted glad goofy gracious great happy hardy heuristic honest
    hopeful hungry humble inspiring intrepid jolly jovial keen kind laughing light lively loving lucid lucky
    mellow merry mighty modest musing mystifying naughty neat nervous nice nifty nimble noble nostalgic
    objective open optimistic patient peaceful pensive plucky polite practical priceless proud quick quiet
    quirky quizzical ready recursing relaxed reverent romantic sad salty serene sharp silent silly sleepy smart
    sober steady stoic strange stubborn sunny sure suspicious sweet tall tender thirsty trusting upbeat vibrant
    vigilant vigorous warm wary wise wizardly wonderful youthful zealous zen
"""

_SURNAMES = """
    abel agnesi allen almeida ampere archimedes ardinghelli aryabhata austin babbage banach bardeen bartik bassi
    bell benz bhabha bhaskara black blackburn blackwell bohr booth borg bose bouman boyd brahmagupta brattain
    brown buck burnell cannon carson cartwright carver cerf chandrasekhar chaplygin chatelet chatterjee
    chebyshev clarke cohen colden cori cray curie curran darwin davinci dewdney dhawan diffie dijkstra dirac
    driscoll dubinsky easley edison einstein elbakyan elgamal elion ellis engelbart euclid euler faraday feistel
    fermat fermi feynman franklin gagarin galileo galois ganguly gates gauss germain goldberg goldstine
    goldwasser golick goodall gould greider grothendieck haibt hamilton haslett hawking heisenberg hellman
    hermann herschel hertz heyrovsky hodgkin hofstadter hoover hopper hugle hypatia ishizaka jackson jang
    jemison jennings jepsen johnson joliot jones kalam kapitsa kare keldysh keller kepler khayyam khorana kilby
    kirch knuth kovalevskaya lalande lamarr lamport leakey leavitt lederberg lehmann lewin lichterman liskov
    lovelace lumiere mahavira margulis matsumoto maxwell mayer mccarthy mcclintock mclaren mclean mcnulty
    meitner mendel mendeleev meninsky merkle mestorf mirzakhani montalcini moore morse moser murdock napier nash
    neumann newton nightingale nobel noether northcutt noyce panini pare pascal pasteur payne perlman pike
    poincare poitras proskuriakova ptolemy raman ramanujan rhodes ride ritchie robinson roentgen rosalind rubin
    saha sammet sanderson satoshi shamir shannon shaw shirley shockley shtern sinoussi snyder solomon spence
    stonebraker sutherland swanson swartz swirles taussig tesla tharp thompson torvalds tu turing varahamihira
    vaughan villani visvesvaraya volhard wescoff wilbur wiles williams williamson wilson wing wozniak wright wu
    yalow yonath zhukovsky
"""

ADJECTIVES = tuple(_ADJECTIVES.split())
SURNAMES = tuple(_SURNAMES.split())
