package expression

import (
	"slices"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
)

// Kubernetes' dialect refuses lists and maps whose values are not all of one type. An
// object of the API is just such a map, so values of playbooks are compiled as the
// argument of a conversion, and what is in one is exempt.
const (
	mixedOpen  = "dyn("
	mixedClose = "\n)" // on a line of its own: the last line may end in a comment
)

// mixedLiterals exempts the arguments of 'dyn' from the check.
type mixedLiterals struct{}

var _ cel.ASTValidatorConfigurer = mixedLiterals{}

// Name is the validator's name.
func (mixedLiterals) Name() string { return "firebreak.mixed_literals" }

// Configure exempts the function.
func (mixedLiterals) Configure(config cel.MutableValidatorConfig) error {
	const key = cel.HomogeneousAggregateLiteralExemptFunctions
	exempt, _ := config.GetOrDefault(key, []string{}).([]string)
	return config.Set(key, append(slices.Clone(exempt), "dyn"))
}

// Validate has nothing to say.
func (mixedLiterals) Validate(*cel.Env, cel.ValidatorConfig, *celast.AST, *cel.Issues) {}

// compileMixed compiles an expression that may yield anything. It is parsed by itself
// first: nobody closes the conversion from within.
func compileMixed(env *cel.Env, source string) (*cel.Ast, error) {
	if _, issues := env.Parse(source); issues.Err() != nil {
		return nil, describe(issues, 0)
	}
	ast, issues := env.Compile(mixedOpen + source + mixedClose)
	if issues.Err() != nil {
		return nil, describe(issues, len(mixedOpen))
	}
	return ast, nil
}
